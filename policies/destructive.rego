# Tools that can destroy are for one group, and nobody else sees them.
#
# What a tool says of itself decides: MCP counts a tool as destructive unless it says `readOnlyHint: true`
# or `destructiveHint: false`. A hint is a claim of the server; trust it where the definitions are reviewed.
#
# Points: list, call.
package toolcrib.destructive

# Settings.

# The group that may.
group := "operators"

# Published names that are destructive whatever they say, and those that are not.
always := set()

never := set()

# Rules.

deny contains message if {
	is_destructive
	not group in input.user.groups
	message := sprintf("`%s` can destroy things, and is for the group `%s`", [input.tool.name, group])
}

is_destructive if input.tool.name in always

is_destructive if {
	not input.tool.name in never
	not is_read_only
	not is_harmless
}

is_read_only if input.tool.annotations.readOnlyHint == true

is_harmless if input.tool.annotations.destructiveHint == false
