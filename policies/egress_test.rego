package toolcrib.egress_test

import data.toolcrib.egress

denied(targets) := said if {
	said := egress.deny with input as {"resource": {"kind": "Tool", "name": "x", "egress": targets}}
}

test_listed_hosts_are_reached if {
	every host in ["api.github.com", "API.GitHub.com", "db.team.svc.cluster.local"] {
		count(denied([{"host": host, "port": 443}])) == 0
	}
}

test_other_hosts_are_not if {
	every host in ["github.com", "api.github.com.evil.example", "svc.cluster.local", "10.0.0.1"] {
		denied([{"host": host, "port": 443}]) == {sprintf("`%s` is not among the hosts that may be reached", [host])}
	}
}

test_other_ports_are_not if {
	denied([{"host": "api.github.com", "port": 22}]) == {"port 22 of `api.github.com` is not among the ports that may be reached"}
}

test_not_too_many_places if {
	many := [{"host": "api.github.com", "port": 443} | some _ in numbers.range(1, 9)]
	denied(many) == {"it reaches 9 places, and 8 are allowed"}
	count(denied(many)) == 0 with egress.most as 9
}

test_what_reaches_nothing_is_not_its_business if {
	count(denied([])) == 0
	count(egress.deny) == 0 with input as {"resource": {"kind": "Tool", "name": "x"}}
}
