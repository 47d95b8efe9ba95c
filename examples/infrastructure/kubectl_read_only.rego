# kubectl only looks. Decides on `argv`, what would be executed, so that it cannot be got around by
# how arguments are written.
#
# Points: call.
package toolcrib.kubectl

# Settings.

# First words of commands that change nothing.
verbs := {
	"api-resources", "api-versions", "cluster-info", "describe", "events", "explain", "get", "logs", "top",
	"version",
}

# Commands of two words that change nothing.
pairs := {
	["auth", "can-i"], ["auth", "whoami"], ["config", "current-context"], ["config", "get-contexts"],
	["rollout", "history"], ["rollout", "status"],
}

# Kinds whose contents are not shown to a model.
hidden := {"secret", "secrets"}

# Options that change who asks, or whom: they come with the credentials, not with a call.
foreign := {
	"--as", "--as-group", "--as-uid", "--as-user-extra", "--certificate-authority", "--client-certificate",
	"--client-key", "--cluster", "--context", "--insecure-skip-tls-verify", "--kubeconfig", "--password",
	"--raw", "--server", "--tls-server-name", "--token", "--user", "--username",
}

# Rules.

deny contains message if {
	is_kubectl
	not reads
	message := sprintf("kubectl only looks here, and `%s` is not among what only looks", [command])
}

deny contains message if {
	is_kubectl
	some word in words
	option := split(word, "=")[0]
	option in foreign
	message := sprintf("the option `%s` is not given by callers", [option])
}

# `-s URL`, also behind options that take no value: `-As URL`.
deny contains "the option `-s` is not given by callers" if {
	is_kubectl
	some word in words
	startswith(word, "-")
	startswith(trim_left(substring(word, 1, -1), "AfhpRw"), "s")
}

deny contains "Secrets are not shown" if {
	is_kubectl
	some word in words
	some part in split(lower(word), ",")
	split(replace(part, ".", "/"), "/")[0] in hidden
}

# By its last part, so that a path makes no difference.
is_kubectl if {
	parts := split(input.tool.argv[0], "/")
	parts[count(parts) - 1] == "kubectl"
}

# What stands behind the program. An option before the verb is no verb: it is refused.
words := array.slice(input.tool.argv, 1, count(input.tool.argv))

default command := "nothing"

command := concat(" ", array.slice(words, 0, 2)) if count(words) > 0

reads if words[0] in verbs

reads if array.slice(words, 0, 2) in pairs
