"""Starts the FastMCP server that is a variable of a Python file.

Usage: launch.py FILE INSTANCE stdio
       launch.py FILE INSTANCE streamable-http PORT PATH
       launch.py FILE INSTANCE sse PORT PATH

The file is loaded by its path, with its folders importable, and never as `__main__`. The server may
be one of the package `fastmcp` or of the official `mcp`, or a function that makes one.
"""

import importlib
import importlib.util
import inspect
import os
import sys


def fail(message):
    print(f"toolcrib: {message}", file=sys.stderr)
    sys.exit(2)


def load(file):
    """The module of a file; inside a package under its full name, so that relative imports work."""
    path = os.path.abspath(file)
    if not os.path.isfile(path):
        fail(f"there is no file {file} in the repository: correct `source.git.file`")
    folder, name = os.path.split(path)
    parts = [os.path.splitext(name)[0]]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    for extra in (os.getcwd(), os.path.join(os.getcwd(), "src"), folder):
        if extra not in sys.path:
            sys.path.insert(0, extra)
    if len(parts) > 1:
        return importlib.import_module(".".join(parts))
    spec = importlib.util.spec_from_file_location(parts[0], path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(parts[0], module)
    spec.loader.exec_module(module)
    return module


def is_server(value):
    return not inspect.isclass(value) and callable(getattr(value, "run", None)) and hasattr(value, "add_tool")


def find(module, file, name):
    value = getattr(module, name, None)
    if value is not None and not is_server(value) and callable(value):
        value = value()
    if is_server(value):
        return value
    found = sorted(key for key, value in vars(module).items() if is_server(value))
    known = f"it has {', '.join(found)}" if found else "it has none"
    fail(f"{file} has no FastMCP server named {name}; {known}: correct `source.git.instance`")


def parameters(function):
    return inspect.signature(function).parameters if function else {}


def over_stdio(server):
    quiet = {"show_banner": False} if "show_banner" in parameters(server.run) else {}
    server.run(transport="stdio", **quiet)


def over_http(server, transport, port, path):
    """Listens on every address: the network of the container says who can reach it."""
    sse = transport == "sse"
    own_path = "sse_path" if sse else "streamable_http_path"
    official = parameters(getattr(server, "run_sse_async" if sse else "run_streamable_http_async", None))
    http = parameters(getattr(server, "run_http_async", None))
    if "host" in http:  # fastmcp
        options = {"host": "0.0.0.0", "port": port, "path": path}
        if "show_banner" in parameters(server.run):
            options["show_banner"] = False
    elif "host" in official:  # mcp since 2.0
        options = {"host": "0.0.0.0", "port": port, own_path: path}
    else:  # mcp before 2.0, which would only answer to `localhost`
        options = {}
        settings = {"host": "0.0.0.0", "port": port, own_path: path, "transport_security": None}
        for key, value in settings.items():
            if hasattr(server.settings, key):
                setattr(server.settings, key, value)
    server.run(transport=transport, **options)


def main():
    file, instance, transport = sys.argv[1:4]
    # What the file prints while it is loaded is no message of the protocol.
    stdout, sys.stdout = sys.stdout, sys.stderr
    server = find(load(file), file, instance)
    sys.stdout = stdout
    if transport == "stdio":
        over_stdio(server)
    else:
        over_http(server, transport, int(sys.argv[4]), sys.argv[5])


main()
