# Images come from listed places and are pinned by digest. Asked when a revision is read: what does not fit
# is not run at all.
#
# Points: admission. Images that Toolcrib builds from the repository are named by what they are built on.
package toolcrib.images

# Settings.

# Where images may come from: a registry, a registry with a folder, or one image.
places := {
	"docker.io/library",
	"ghcr.io",
	"quay.io/prometheus",
}

# Whether `@sha256:…` has to stand behind the name.
default pinned_only := true

# Rules.

deny contains message if {
	some image in input.resource.images
	not is_listed(image)
	message := sprintf("the image `%s` comes from `%s`, which is not listed", [image, place(image)])
}

deny contains message if {
	pinned_only
	some image in input.resource.images
	not is_pinned(image)
	message := sprintf("the image `%s` can change: pin it with `@sha256:…`", [image])
}

is_pinned(image) if {
	hash := split(image, "@sha256:")[1]
	count(hash) == 64
	trim(hash, "0123456789abcdef") == ""
}

is_listed(image) if {
	some listed in places
	under(place(image), listed)
}

under(name, listed) if name == listed

under(name, listed) if startswith(name, concat("", [listed, "/"]))

# The full name without tag and digest: `docker.io/library/python` for `python:3.12`.
place(image) := name if {
	parts := split(split(image, "@")[0], "/")
	last := count(parts) - 1
	folders := array.slice(parts, 0, last)
	name := full(array.concat(folders, [split(parts[last], ":")[0]]), folders)
}

full(parts, folders) := concat("/", parts) if has_registry(folders)

full(parts, folders) := concat("/", ["docker.io/library", parts[0]]) if count(folders) == 0

full(parts, folders) := concat("/", array.concat(["docker.io"], parts)) if {
	count(folders) > 0
	not has_registry(folders)
}

has_registry(folders) if folders[0] == "localhost"

has_registry(folders) if {
	some mark in [".", ":"]
	contains(folders[0], mark)
}
