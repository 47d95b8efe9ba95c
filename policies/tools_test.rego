package toolcrib.tools_test

import data.toolcrib.tools

admin := {"name": "ada", "groups": ["developers", "admin"]}

developer := {"name": "dan", "groups": ["developers"]}

nobody := {"name": "nia", "groups": []}

get_pods := {"name": "kubectl", "args": {"command": "get pods"}}

delete_pods := {"name": "kubectl", "args": {"command": "delete pods"}}

staging := {"name": "s", "type": "kubernetes", "cluster": "staging"}

production := {"name": "p", "type": "kubernetes", "cluster": "production"}

test_an_administrator_runs_anything_anywhere if {
	every runner in [staging, production] {
		every tool in [get_pods, delete_pods, {"name": "terraform", "args": {}}] {
			tools.allow with input as {"tool": tool, "user": admin, "runner": runner}
			count(tools.deny) == 0 with input as {"tool": tool, "user": admin, "runner": runner}
		}
	}
}

test_a_developer_reads_with_kubectl if {
	tools.allow with input as {"tool": get_pods, "user": developer, "runner": staging}
	count(tools.deny) == 0 with input as {"tool": get_pods, "user": developer, "runner": staging}
}

test_a_developer_changes_nothing if {
	not tools.allow with input as {"tool": delete_pods, "user": developer, "runner": staging}
}

test_a_developer_stays_out_of_production if {
	count(tools.deny) == 1 with input as {"tool": get_pods, "user": developer, "runner": production}
}

test_who_has_no_group_runs_nothing if {
	not tools.allow with input as {"tool": get_pods, "user": nobody, "runner": staging}
	count(tools.deny) == 1 with input as {"tool": get_pods, "user": nobody, "runner": production}
}
