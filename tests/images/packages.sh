# Debian packages. Sourced by tests/run.

PACKAGES=(
    # engine and images
    docker.io iproute2 iptables busybox-static mmdebstrap ca-certificates
    # tools and servers that tests talk to
    git openssh-server openssh-client nginx-light docker-registry python3 python3-venv
    # to compile and to check
    gcc libc6-dev make perl pkg-config nix-bin
)

packages_install() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q ' installed$' \
            || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || packages_get "${missing[@]}"
}

packages_get() (
    echo "installing $*"
    # No package starts its service: Debian asks this file.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
)
