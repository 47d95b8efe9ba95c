"""A FastMCP server whose tools show what a client must bear: progress, logs, a list that changes."""

import asyncio
import sys

import mcp_types
from fastmcp import Context, FastMCP

mcp = FastMCP("probed", instructions="for the tests of the client")


@mcp.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@mcp.tool
async def count(to: int, ctx: Context) -> str:
    """Counts and says how far it is."""
    for n in range(to):
        await ctx.report_progress(n + 1, to, f"at {n + 1}")
        await ctx.info(f"counted {n + 1}")
    return "done"


@mcp.tool
async def wait(path: str) -> str:
    """Waits until it is cancelled, and then leaves a file."""
    try:
        await asyncio.sleep(3600)
    finally:
        with open(path, "w") as file:
            file.write("cancelled")
    return "never"


@mcp.tool
async def grow(ctx: Context) -> str:
    """Adds a tool."""
    mcp.add_tool(lambda_tool())
    await ctx.send_notification(mcp_types.ToolListChangedNotification())
    return "grown"


def lambda_tool():
    from fastmcp.tools import Tool

    def late() -> str:
        """Was not there before."""
        return "late"

    return Tool.from_function(late)


@mcp.prompt
def greet(name: str) -> str:
    """Greets."""
    return f"Greet {name}"


@mcp.resource("data://one")
def one() -> str:
    return "1"


@mcp.resource("data://{n}/double")
def double(n: int) -> str:
    return str(2 * int(n))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
    else:
        mcp.run(show_banner=False)
