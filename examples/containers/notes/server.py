"""Notes that live as long as the server does."""

import os

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

LIMIT = int(os.environ.get("NOTES_LIMIT", "100"))

mcp = FastMCP(name="notes", instructions="Remembers notes until the server is replaced.")
notes: list[str] = []


@mcp.tool
def add(text: str) -> int:
    """Remembers a note and returns its number."""
    if len(notes) >= LIMIT:
        raise ToolError(f"there is room for {LIMIT} notes: forget one first")
    notes.append(text)
    return len(notes)


@mcp.tool(annotations={"readOnlyHint": True})
def search(word: str) -> list[str]:
    """Returns the notes that hold a word."""
    return [note for note in notes if word.lower() in note.lower()]


@mcp.tool
def debug_dump() -> list[str]:
    """Returns everything. Not published: the manifest excludes it."""
    return notes


if __name__ == "__main__":
    mcp.run(show_banner=False)
