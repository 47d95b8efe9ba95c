#!/bin/sh
# Installs a Python project into /opt/venv by what it has: uv.lock, poetry.lock or pdm.lock, else
# requirements.txt and pyproject.toml. Locks are exported to requirements and installed by pip, so
# that they work with any index. Usage: install.sh FOLDER
set -eu
cd "$1"

# Settings of the build's runner, for every tool that may come to need them.
if [ -f /opt/toolcrib/ca.pem ]; then
    export PIP_CERT=/opt/toolcrib/ca.pem SSL_CERT_FILE=/opt/toolcrib/ca.pem
    export REQUESTS_CA_BUNDLE=/opt/toolcrib/ca.pem
fi
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { echo "toolcrib: $*"; }
python3 -m venv /opt/venv
pip=/opt/venv/bin/pip

# Runs the project's own tool from a folder that does not stay.
tool() {
    python3 -m venv /tmp/tool
    /tmp/tool/bin/pip install --quiet "$@"
}

# Runtime dependencies of pyproject.toml, one a line.
declared() {
    /opt/venv/bin/python - <<'PYTHON'
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
print("\n".join(project.get("project", {}).get("dependencies", [])))
PYTHON
}

has() { [ -f pyproject.toml ] && grep -q "^\[$1" pyproject.toml; }

wanted=/tmp/requirements.txt
project=no
if has build-system; then project=yes; fi

if [ -f uv.lock ]; then
    say "installing by uv.lock"
    tool uv
    /tmp/tool/bin/uv export --quiet --frozen --no-dev --no-emit-project --format requirements-txt > "$wanted"
    "$pip" install -r "$wanted"
elif [ -f poetry.lock ] || grep -qs '^package-mode *= *false' pyproject.toml; then
    say "installing by poetry.lock"
    tool poetry poetry-plugin-export
    if [ ! -f poetry.lock ]; then /tmp/tool/bin/poetry lock; fi
    /tmp/tool/bin/poetry export --format requirements.txt --output "$wanted"
    "$pip" install -r "$wanted"
    if grep -qs '^package-mode *= *false' pyproject.toml; then project=no; fi
elif [ -f pdm.lock ]; then
    say "installing by pdm.lock"
    tool pdm
    /tmp/tool/bin/pdm export --format requirements --prod --output "$wanted"
    "$pip" install -r "$wanted"
    if grep -q '^distribution *= *false' pyproject.toml; then project=no; fi
else
    if [ -f requirements.txt ]; then
        say "installing by requirements.txt"
        "$pip" install -r requirements.txt
    fi
    if has project; then
        say "installing the dependencies of pyproject.toml"
        declared > "$wanted"
        "$pip" install -r "$wanted"
    elif [ "$project" = yes ]; then
        # Dependencies in a form only the project's own build tool knows, such as Poetry's.
        say "installing by pyproject.toml"
        "$pip" install .
        project=no
    fi
fi
if [ "$project" = yes ]; then
    say "installing the project itself"
    "$pip" install --no-deps .
fi

# A server without declared dependencies still is a FastMCP server.
if ! /opt/venv/bin/python -c 'import fastmcp' 2> /dev/null && ! /opt/venv/bin/python -c 'import mcp' 2> /dev/null; then
    say "nothing asked for FastMCP: installing it"
    "$pip" install fastmcp
fi
"$pip" freeze > /opt/toolcrib/installed.txt
/opt/venv/bin/python -m compileall -q . > /dev/null 2>&1 || true
rm -rf /tmp/tool "$wanted" /root/.cache
