# Who may run which tool. A working form of the example policy that Toolcrib grew from, in Rego v1.
#
# Input: `tool` (name, args, argv, image, annotations), `user` (name, groups), `runner` (name, type,
# attributes; an attribute such as `cluster` also stands beside them).
package toolcrib.tools

# Administrators may run any tool.
allow if is_admin

# Developers may read with kubectl.
allow if {
	input.tool.name == "kubectl"
	startswith(input.tool.args.command, "get")
	"developers" in input.user.groups
}

# On production runners only administrators run anything.
deny contains "only administrators may use production runners" if {
	input.runner.cluster == "production"
	not is_admin
}

# A rule of its own: `not input.user.groups[_] == "admin"` would be unsafe, because inside `not`
# the `_` has no value. OPA refuses it, and so does Toolcrib.
is_admin if "admin" in input.user.groups
