# The example policy that Toolcrib grew from, in Rego v0 as it was written (`regoVersion: v0`), but
# for its last rule: `not input.user.groups[_] == "admin"` negates over `_`, which OPA calls unsafe.
# The working form asks a rule of its own.
package kubiya.tools

# Allow kubectl read-only operations
allow {
    input.tool.name == "kubectl"
    input.tool.args.command
    startswith(input.tool.args.command, "get")
    input.user.groups[_] == "developers"
}

# Allow admin users to run any tool
allow {
    input.user.groups[_] == "admin"
}

# Deny execution on production runners for non-admin users
deny {
    input.runner.cluster == "production"
    not is_admin
}

is_admin {
    input.user.groups[_] == "admin"
}
