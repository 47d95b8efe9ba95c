# Production is for administrators, whether the runner is there or an argument names it.
#
# Points: call.
package toolcrib.production

# Settings.

# The group that may.
group := "admin"

# What production is called: in attributes of runners, and in arguments.
names := {"prod", "production"}

# Attributes of runners that tell where they are, and arguments that tell where a tool works.
attributes := {"cluster", "environment", "stage"}

arguments := {"cluster", "context", "env", "environment", "namespace", "stage", "workspace"}

# Rules.

deny contains message if {
	not is_admin
	some key in attributes
	is_production(input.runner.attributes[key])
	message := sprintf("runner `%s` is in production, which is for the group `%s`", [input.runner.name, group])
}

deny contains message if {
	not is_admin
	some key in arguments
	is_production(input.tool.args[key])
	message := sprintf("`%s` names production, which is for the group `%s`", [key, group])
}

# A rule of its own: `not input.user.groups[_] == group` would be unsafe.
is_admin if group in input.user.groups

# `production`, and what has it as a part: `eu-production-1`.
is_production(name) if {
	some part in split(strings.replace_n({"_": "-", ".": "-", "/": "-", ":": "-"}, lower(name)), "-")
	part in names
}
