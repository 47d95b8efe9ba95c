package kubiya.tools_test

import data.kubiya.tools

administrator := {"name": "ada", "groups": ["developers", "admin"]}

developer := {"name": "dan", "groups": ["developers"]}

nobody := {"name": "nia", "groups": []}

staging := {"type": "kubernetes", "cluster": "staging"}

production := {"type": "kubernetes", "cluster": "production"}

get_pods := {"name": "kubectl", "args": {"command": "get pods"}}

delete_pods := {"name": "kubectl", "args": {"command": "delete pods"}}

terraform := {"name": "terraform", "args": {}}

may(user, tool, runner) if {
	asked := {"tool": tool, "user": user, "runner": runner}
	tools.allow with input as asked
	not tools.deny with input as asked
}

# Groups have no order: that she is a developer first takes nothing from her.
test_an_administrator_who_is_a_developer_too_runs_anything_anywhere if {
	every runner in [staging, production] {
		every tool in [get_pods, delete_pods, terraform] {
			may(administrator, tool, runner)
		}
	}
}

test_a_developer_reads_with_kubectl if may(developer, get_pods, staging)

test_a_developer_changes_nothing if {
	not may(developer, delete_pods, staging)
	not may(developer, terraform, staging)
}

test_a_developer_stays_out_of_production if {
	tools.deny with input as {"tool": get_pods, "user": developer, "runner": production}
}

test_who_has_no_group_runs_nothing if {
	not may(nobody, get_pods, staging)
	tools.deny with input as {"tool": get_pods, "user": nobody, "runner": production}
}
