"""Reads a table as CSV and prints what is in it as JSON."""

import json
import sys

import pandas

table = pandas.read_csv(sys.stdin)
columns = []
for name in table.columns:
    column = table[name]
    told = {"name": str(name), "type": str(column.dtype), "missing": int(column.isna().sum())}
    if pandas.api.types.is_numeric_dtype(column):
        told |= {"least": float(column.min()), "mean": float(column.mean()), "most": float(column.max())}
    else:
        told |= {"distinct": int(column.nunique())}
    columns.append(told)
json.dump({"rows": len(table), "columns": columns}, sys.stdout)
