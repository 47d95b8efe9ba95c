# The images of the tests. No registry is asked: they are made of Debian
# packages and Python wheels. Each carries the hash of its recipe as a label
# and is made again only when that changes. Sourced by tests/run.

CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

images_make() {
    local host base
    # The scripts and the settings of this machine belong to every recipe.
    host=$(cat tests/images/images.sh "$CA_BUNDLE" <(host_pip) <(host_npm_registry) <(host_proxies) | digest)

    image toolcrib.test/busybox:1 "$host $(dpkg-query -W busybox-static)" make_busybox
    image toolcrib.test/probe-inside:1 "$host $(content tests/images/inside)" make_inside
    base="$host python"
    image toolcrib.test/python:3.11 "$base" make_python
    image toolcrib.test/node:20 "$base $NODE $(content tests/images/node)" make_node
    image toolcrib.test/fastmcp:1 \
        "$base $FASTMCP $(content tests/images/fastmcp tests/fixtures/weather)" make_fastmcp
    image toolcrib.test/programs:1 "$host ${PROGRAMS[*]}" make_programs
}

digest() { sha256sum | cut -d' ' -f1; }
content() { find "$@" -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | digest; }

# image TAG RECIPE FUNCTION: calls the function as FUNCTION TAG LABEL.
image() {
    local label found
    label=toolcrib.test.recipe=$(echo "$1 $2" | digest)
    found=$(docker image ls -q --filter "reference=$1" --filter "label=$label")
    if [ -z "$found" ]; then
        echo "making $1"
        "$3" "$1" "$label"
    fi
}

make_busybox() (
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    chmod 755 "$root"
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp}
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    files_of "$root"
    tar -C "$root" --owner 0 --group 0 -c . \
        | docker import --change "LABEL $2" --change 'ENV PATH=/bin' --change 'CMD ["/bin/sh"]' - "$1"
)

# Without nsswitch.conf a static busybox crashes when it looks up a service.
files_of() {
    printf '%s\n' 'passwd: files' 'group: files' 'services: files' 'hosts: files dns' \
        > "$1/etc/nsswitch.conf"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' \
        'nobody:x:65534:65534:nobody:/tmp:/bin/false' > "$1/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > "$1/etc/group"
}

make_inside() { build "$1" "$2" tests/images/inside; }
make_node() {
    build "$1" "$2" tests/images/node --build-arg "NODE=$NODE" \
        --build-arg "NPM_REGISTRY=$(host_npm_registry)"
}
make_fastmcp() {
    build "$1" "$2" tests/fixtures/weather --file tests/images/fastmcp/Dockerfile \
        --build-arg "FASTMCP=$FASTMCP"
}

build() {
    local tag=$1 label=$2 context=$3
    shift 3
    docker build --quiet --force-rm --network host --label "$label" --tag "$tag" "$@" "$context"
}

# Debian with Python as the official image has it: `pip install` just works.
# Certificates, pip settings and proxies are those of this machine. Only the
# images of the tests may rely on that, the product never does.
make_python() {
    local line changes=()
    while read -r line; do changes+=(--change "ENV $line"); done < <(host_proxies)
    mmdebstrap --quiet --variant=minbase \
        --include=ca-certificates,python3,python3-pip,python3-venv \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="upload $CA_BUNDLE /etc/ssl/certs/ca-certificates.crt" \
        --customize-hook="upload $(host_pip_file) /etc/pip.conf" \
        --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        --customize-hook='ln -s python3 "$1"/usr/bin/python' \
        bookworm "$IT/python.tar"
    # Not through a pipe: half an archive would become an image, too.
    docker import --change "LABEL $2" --change 'CMD ["python3"]' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change "ENV SSL_CERT_FILE=$CA_BUNDLE" --change "ENV NODE_EXTRA_CA_CERTS=$CA_BUNDLE" \
        --change "ENV PIP_ROOT_USER_ACTION=ignore" "${changes[@]}" "$IT/python.tar" "$1"
    rm "$IT/python.tar"
}

# Programs that the examples speak of, as Debian has them. One image, since most of it is what they share.
PROGRAMS=(docker.io git kubernetes-client nodejs postgresql-client prometheus python3-pandas)
make_programs() {
    mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${PROGRAMS[*]}")" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/javascript/*' \
        --customize-hook='cd "$1"/usr && rm -r bin/containerd* bin/ctr bin/dnet bin/prometheus sbin/dockerd sbin/ovrouter sbin/runc' \
        bookworm "$IT/programs.tar"
    docker import --change "LABEL $2" --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' \
        "$IT/programs.tar" "$1"
    rm "$IT/programs.tar"
}

# What pip and npm on this machine were told about registries. The tools are
# made before the images, so that both are there.
host_pip() {
    echo "[global]"
    echo "cert = $CA_BUNDLE"
    "$IT/venv/bin/pip" config list | sed -nE \
        "s/^[^ ]+\.(index-url|extra-index-url|trusted-host|proxy|timeout|default-timeout)='(.*)'$/\1 = \2/p" \
        | sort -u -t' ' -k1,1
}
host_pip_file() { host_pip > "$IT/pip.conf" && echo "$IT/pip.conf"; }
host_npm_registry() {
    if command -v npm > /dev/null; then npm config get registry; else "$IT/node/bin/npm" config get registry; fi 2> /dev/null
}
host_proxies() { env | grep -iE '^(https?|no)_proxy=' | sort || true; }
