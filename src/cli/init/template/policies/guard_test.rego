package guard_test

import data.guard

destructive := {"name": "remove", "annotations": {"destructiveHint": true}}

harmless := {"name": "word-count", "annotations": {"readOnlyHint": true}}

denied(groups, tool) := said if {
	said := guard.deny with input as {"tool": tool, "user": {"name": "ada", "groups": groups}}
}

test_operators_may_destroy if {
	count(denied(["operators"], destructive)) == 0
}

test_others_may_not if {
	denied(["developers"], destructive) == {"`remove` can destroy things, and is for the group `operators`"}
}

test_all_may_read if {
	count(denied([], harmless)) == 0
}
