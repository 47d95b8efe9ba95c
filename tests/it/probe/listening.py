"""A server of the Python SDK that tells subscribers when its tools change."""

import sys

from mcp.server.mcpserver import Context, MCPServer

mcp = MCPServer("listening")


@mcp.tool()
async def grow(ctx: Context) -> str:
    """Adds a tool and says so."""

    def late() -> str:
        """Was not there before."""
        return "late"

    mcp.add_tool(late)
    await ctx.notify_tools_changed()
    return "grown"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mcp.run(transport="streamable-http", port=int(sys.argv[1]))
    else:
        mcp.run()
