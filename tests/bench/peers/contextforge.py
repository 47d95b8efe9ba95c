"""ContextForge in front of one MCP server: contextforge.py URL PORT FOLDER, run by the Python it is installed for.

Prints `ready TOKEN` when the server is registered and goes on until it is killed. Rate limits are off, one
endpoint serves all tools, answers are JSON, the database is a file in FOLDER; everything else is as installed.
"""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request

backend, port, folder = sys.argv[1:]
address = f"http://127.0.0.1:{port}"
environment = os.environ | {
    "JWT_SECRET_KEY": secrets.token_hex(32),
    "AUTH_ENCRYPTION_SECRET": secrets.token_hex(32),
    "PLATFORM_ADMIN_EMAIL": "admin@example.com",
    "PLATFORM_ADMIN_PASSWORD": secrets.token_urlsafe(24) + "-Aa1!",
    "DEFAULT_USER_PASSWORD": secrets.token_urlsafe(24) + "-Aa1!",
    "BASIC_AUTH_PASSWORD": secrets.token_urlsafe(24) + "-Aa1!",
    "DATABASE_URL": f"sqlite:///{folder}/forge.db",
    "SSRF_ALLOW_LOCALHOST": "true",
    "RATE_LIMITING_ENABLED": "false",
    "TOOL_RATE_LIMIT": "0",
    "JSON_RESPONSE_ENABLED": "true",
    "USE_STATEFUL_SESSIONS": "false",
    "MCPGATEWAY_UI_ENABLED": "false",
    "LOG_LEVEL": "ERROR",
}
binaries = os.path.dirname(sys.executable)
gateway = subprocess.Popen(
    [f"{binaries}/mcpgateway", "mcpgateway.main:app", "--host", "127.0.0.1", "--port", port],
    env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)


def ask(path, token=None, body=None):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address + path, data, headers), timeout=60) as answer:
        return answer.read()


deadline = time.monotonic() + 90
while True:
    try:
        ask("/health")
        break
    except (urllib.error.URLError, ConnectionError):
        if gateway.poll() is not None or time.monotonic() > deadline:
            sys.exit("ContextForge does not start")
        time.sleep(0.1)

token = subprocess.run(
    [sys.executable, "-m", "mcpgateway.utils.create_jwt_token", "--username", "admin@example.com",
     "--exp", "1440", "--secret", environment["JWT_SECRET_KEY"]],
    env=environment, cwd=folder, capture_output=True, text=True, check=True,
).stdout.split()[-1]
# It takes `localhost` only.
url = backend.replace("127.0.0.1", "localhost")
ask("/gateways", token, {"name": "echo", "url": url, "transport": "STREAMABLEHTTP"})
print("ready", token, flush=True)
gateway.wait()
