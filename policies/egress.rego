# What may be reached from a container. Asked when a revision is read: what does not fit is not run at all.
# Whatever is not declared in `egress`, by the resource or its integrations, cannot be reached anyhow.
#
# Points: admission.
package toolcrib.egress

# Settings.

# Hosts that may be reached, and below which: `.example.com` stands for every host below it.
hosts := {
	"api.github.com",
	".svc.cluster.local",
}

# Ports that may be reached.
ports := {443}

# How many places one resource may reach.
default most := 8

# Rules.

deny contains message if {
	some target in targets
	not is_listed(target.host)
	message := sprintf("`%s` is not among the hosts that may be reached", [target.host])
}

deny contains message if {
	some target in targets
	not target.port in ports
	message := sprintf("port %d of `%s` is not among the ports that may be reached", [target.port, target.host])
}

deny contains message if {
	count(targets) > most
	message := sprintf("it reaches %d places, and %d are allowed", [count(targets), most])
}

targets := object.get(input.resource, "egress", [])

is_listed(host) if lower(host) in hosts

is_listed(host) if {
	some below in hosts
	startswith(below, ".")
	endswith(lower(host), below)
}
