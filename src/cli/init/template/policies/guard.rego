# What says of itself that it destroys something is for one group.
package guard

# The group that may.
group := "operators"

deny contains message if {
	input.tool.annotations.destructiveHint == true
	not group in input.user.groups
	message := sprintf("`%s` can destroy things, and is for the group `%s`", [input.tool.name, group])
}
