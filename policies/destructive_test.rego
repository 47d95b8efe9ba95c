package toolcrib.destructive_test

import data.toolcrib.destructive

operator := {"name": "oz", "groups": ["developers", "operators"]}

developer := {"name": "dan", "groups": ["developers"]}

tool(annotations) := {"name": "remove", "annotations": annotations}

denied(user, tool) := said if {
	said := destructive.deny with input as {"tool": tool, "user": user}
}

test_operators_destroy if {
	count(denied(operator, tool({"destructiveHint": true}))) == 0
}

test_others_do_not if {
	denied(developer, tool({"destructiveHint": true})) == {"`remove` can destroy things, and is for the group `operators`"}
}

test_what_says_nothing_counts_as_destructive if {
	count(denied(developer, tool({}))) == 1
	count(denied(developer, {"name": "remove"})) == 1
}

test_what_reads_or_only_adds_is_for_all if {
	count(denied(developer, tool({"readOnlyHint": true}))) == 0
	count(denied(developer, tool({"readOnlyHint": false, "destructiveHint": false}))) == 0
}

test_who_has_no_groups_destroys_nothing if {
	count(destructive.deny) == 1 with input as {"tool": tool({"destructiveHint": true})}
}

test_names_decide_before_hints if {
	count(denied(developer, tool({"readOnlyHint": true}))) == 1 with destructive.always as {"remove"}
	count(denied(developer, tool({"destructiveHint": true}))) == 0 with destructive.never as {"remove"}
}
