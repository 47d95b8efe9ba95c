"""A small MCP server over stdio, of the standard library alone.

Real ones are written with an SDK; this one shows all there is to it: one message of JSON-RPC a line.
"""

import json
import sys
from datetime import datetime, timezone

NOW = {
    "name": "now",
    "title": "Current time",
    "description": "Tells the current date and time in UTC.",
    "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}


def answer(method, params):
    """The result of a request; None when there is no such method."""
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion", "2025-06-18"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "clock", "version": "1.0.0"},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [NOW]}
    if method == "tools/call" and params.get("name") == "now":
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {"content": [{"type": "text", "text": now}]}
    return None


def main():
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        result = answer(message["method"], message.get("params") or {})
        if result is None:
            reply["error"] = {"code": -32601, "message": f"no method {message['method']}"}
        else:
            reply["result"] = result
        print(json.dumps(reply), flush=True)


main()
