package crib.tools

# One `allow` must hold, if any policy defines one.

# What only reads is for everybody.
allow if input.tool.annotations.readOnlyHint == true

# Everything is for those who run the place.
allow if "admin" in input.user.groups

# Any `deny` wins, whatever is allowed. Its text is what the caller is told.
deny contains "nothing below /etc is touched" if {
	some part in input.tool.argv
	startswith(part, "/etc")
}

deny contains "production is for admins" if {
	input.runner.attributes.cluster == "production"
	not "admin" in input.user.groups
}
