package toolcrib.production_test

import data.toolcrib.production

administrator := {"name": "ada", "groups": ["developers", "admin"]}

developer := {"name": "dan", "groups": ["developers"]}

nobody := {"name": "nia", "groups": []}

on(cluster) := {"name": "r", "type": "kubernetes", "attributes": {"cluster": cluster}}

denied(user, cluster, args) := said if {
	said := production.deny with input as {
		"tool": {"name": "kubectl", "args": args},
		"user": user,
		"runner": on(cluster),
	}
}

test_an_administrator_who_is_a_developer_too_goes_anywhere if {
	count(denied(administrator, "production", {})) == 0
	count(denied(administrator, "staging", {"namespace": "production"})) == 0
}

test_others_stay_out_of_its_runners if {
	every user in [developer, nobody] {
		every cluster in ["production", "prod", "eu-production-1", "PROD_eu"] {
			count(denied(user, cluster, {})) == 1
		}
	}
}

test_others_do_not_name_it_in_arguments if {
	every key in ["namespace", "context", "workspace"] {
		count(denied(developer, "staging", {key: "production"})) == 1
	}
}

test_others_go_elsewhere if {
	every cluster in ["staging", "product-catalog", "reproduction"] {
		count(denied(developer, cluster, {"namespace": "sales", "query": "production"})) == 0
	}
}

test_who_is_not_known_is_no_administrator if {
	count(production.deny) == 1 with input as {"tool": {"name": "x", "args": {}}, "runner": on("production")}
}

test_without_a_runner_nothing_is_said if {
	count(production.deny) == 0 with input as {"tool": {"name": "x"}, "user": nobody}
}
