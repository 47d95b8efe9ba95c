package toolcrib.images_test

import data.toolcrib.images

hash := "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

denied(image) := said if {
	said := images.deny with input as {"resource": {"kind": "Tool", "name": "x", "images": [image]}}
}

pinned(name) := concat("", [name, hash])

test_listed_and_pinned_is_let_through if {
	every name in [
		"python", "python:3.12-slim", "library/python", "docker.io/library/python:3.12", "ghcr.io/team/tool",
		"quay.io/prometheus/prometheus:v2",
	] {
		count(denied(pinned(name))) == 0
	}
}

test_other_places_are_refused if {
	every name in [
		"bitnami/kubectl", "docker.io/bitnami/kubectl:1", "localhost:5000/python", "ghcr.io.evil.example/tool",
		"quay.io/prometheus-evil/x", "quay.io/other",
	] {
		count(denied(pinned(name))) == 1
	}
}

test_the_message_names_the_place if {
	denied(pinned("bitnami/kubectl:1")) == {concat("", ["the image `", pinned("bitnami/kubectl:1"), "` comes from `docker.io/bitnami/kubectl`, which is not listed"])}
}

test_what_is_not_pinned_is_refused if {
	every image in ["python", "python:3.12", "python:latest", "python@sha256:abc"] {
		count(denied(image)) == 1
	}
}

test_pinning_can_be_left_to_others if {
	count(denied("python:3.12")) == 0 with images.pinned_only as false
	count(denied("bitnami/kubectl")) == 1 with images.pinned_only as false
}

test_what_has_no_image_is_not_its_business if {
	count(images.deny) == 0 with input as {"resource": {"kind": "Tool", "name": "x", "images": []}}
}
