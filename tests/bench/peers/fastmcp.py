"""FastMCP as a proxy of one MCP server: fastmcp.py URL PORT FOLDER, run by the Python it is installed for.

Prints `ready` and goes on until it is killed. Answers are JSON; everything else is as installed.
"""

import sys

from fastmcp.server import create_proxy

backend, port, _folder = sys.argv[1:]
proxy = create_proxy(backend, name="bench")
print("ready", flush=True)
proxy.run(
    transport="http", host="127.0.0.1", port=int(port), show_banner=False, log_level="ERROR", json_response=True
)
