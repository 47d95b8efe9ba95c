"""Starts the FastMCP server that is a variable of a Python file.

Usage: launch.py FILE INSTANCE stdio
       launch.py FILE INSTANCE streamable-http PORT PATH

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
    return not inspect.isclass(value) and callable(getattr(value, "run", None)) and hasattr(value, "list_tools")


def find(module, file, name):
    value = getattr(module, name, None)
    if value is not None and not is_server(value) and callable(value):
        value = value()
    if is_server(value):
        return value
    found = sorted(key for key, value in vars(module).items() if is_server(value))
    known = f"it has {', '.join(found)}" if found else "it has none"
    fail(f"{file} has no FastMCP server named {name}; {known}: correct `source.git.instance`")


def over_http(server, port, path):
    """Listens on every address: the network of the container says who can reach it."""
    wanted = {"host": "0.0.0.0", "port": port, "path": path}
    parameters = inspect.signature(server.run).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if open_ended or "host" in parameters:
        options = dict(wanted)
        if "streamable_http_path" in parameters:
            options["streamable_http_path"] = options.pop("path")
        server.run(transport="streamable-http", **options)
        return
    # The official SDK keeps them in its settings, and would only answer to `localhost`.
    for key, value in (*wanted.items(), ("streamable_http_path", path), ("transport_security", None)):
        if hasattr(server.settings, key):
            setattr(server.settings, key, value)
    server.run(transport="streamable-http")


def main():
    file, instance, transport = sys.argv[1:4]
    # What the file prints while it is loaded is no message of the protocol.
    stdout, sys.stdout = sys.stdout, sys.stderr
    server = find(load(file), file, instance)
    sys.stdout = stdout
    if transport == "stdio":
        server.run(transport="stdio")
    else:
        over_http(server, int(sys.argv[4]), sys.argv[5])


main()
