#!/bin/sh
# The $2 newest lines of index $1 that match the query on standard input. The key goes to curl through a
# file of its own, since arguments of a program are seen by everybody on the machine.
set -eu
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT
printf 'header = "Authorization: ApiKey %s"\n' "$ELASTICSEARCH_API_KEY" > "$settings"
python3 -c '
import json, sys
query = {"simple_query_string": {"query": sys.stdin.read(), "fields": ["message", "service"]}}
json.dump({"size": int(sys.argv[1]), "query": query, "sort": [{"@timestamp": "desc"}],
           "_source": ["@timestamp", "service", "message"]}, sys.stdout)
' "$2" |
    curl --config "$settings" --silent --show-error --fail --max-time 20 \
        --header 'Content-Type: application/json' --data-binary @- \
        "$ELASTICSEARCH_URL/$1/_search?filter_path=hits.hits._source"
