package toolcrib.kubectl_test

import data.toolcrib.kubectl

denied(argv) := said if {
	said := kubectl.deny with input as {"tool": {"name": "kubectl", "argv": argv}}
}

test_looking_is_let_through if {
	every command in [
		["get", "pods", "-A"],
		["get", "pods", "-n", "sales", "-o", "json"],
		["describe", "deployment/api"],
		["logs", "-f", "api-0", "--tail=100"],
		["top", "nodes"],
		["rollout", "status", "deployment/api"],
		["auth", "can-i", "list", "pods"],
		["version"],
	] {
		count(denied(array.concat(["kubectl"], command))) == 0
	}
}

test_changing_is_refused if {
	every command in [
		["delete", "pods", "--all"],
		["apply", "-f", "-"],
		["exec", "api-0", "--", "sh"],
		["rollout", "restart", "deployment/api"],
		["config", "view", "--minify"],
		["auth", "reconcile", "-f", "x"],
		["cp", "api-0:/etc/passwd", "x"],
		["-n", "sales", "delete", "pod", "x"],
		[],
	] {
		count(denied(array.concat(["kubectl"], command))) > 0
	}
}

test_the_message_names_the_command if {
	denied(["kubectl", "delete", "pods"]) == {"kubectl only looks here, and `delete pods` is not among what only looks"}
	denied(["kubectl"]) == {"kubectl only looks here, and `nothing` is not among what only looks"}
}

test_a_path_makes_no_difference if {
	count(denied(["/usr/local/bin/kubectl", "delete", "pods"])) == 1
}

test_secrets_are_not_shown if {
	every resource in ["secret", "secrets", "Secrets", "secret/db", "secrets.v1.", "pods,secrets"] {
		denied(["kubectl", "get", resource, "-o", "yaml"]) == {"Secrets are not shown"}
	}
}

test_nobody_becomes_somebody_else if {
	every options in [
		["--as=root"], ["--token", "x"], ["--kubeconfig=/x"], ["--context=prod"], ["--raw=/api"],
		["--server=https://x"], ["-s", "https://x"], ["-shttps://x"], ["-As", "https://x"],
	] {
		count(denied(array.concat(["kubectl", "get", "pods"], options))) == 1
	}
}

test_other_programs_are_not_its_business if {
	count(denied(["git", "push"])) == 0
	count(kubectl.deny) == 0 with input as {"tool": {"name": "weather"}}
}
