# An engine of our own: dockerd and containerd with their own data, sockets,
# bridge and addresses, so that nothing of another engine is seen or touched.
# Sourced by tests/run.

# Several checkouts may run side by side: bridge and addresses come from the
# folder's name.
engine_id=$(printf %s "$IT" | sha256sum | cut -c1-6)
engine_bridge=tcit-$engine_id
engine_net=10.$((128 + 0x$engine_id % 100))

# A socket's path is limited to 107 bytes, so in a deep checkout the sockets
# live below /tmp. Data stays below target/it.
engine_run() {
    if [ ${#IT} -le 60 ]; then
        echo "$IT/run"
        return
    fi
    if [ ! -s "$IT/run-folder" ] || [ ! -d "$(cat "$IT/run-folder")" ]; then
        mktemp -d /tmp/toolcrib-it.XXXXXX > "$IT/run-folder"
    fi
    cat "$IT/run-folder"
}

engine_socket() { echo "$(engine_run)/docker.sock"; }

# The pid in a file, if that process is still the one we started.
engine_pid() {
    local pid
    pid=$(cat "$IT/$1.pid" 2> /dev/null) || return 1
    grep -qsF "$IT/" "/proc/$pid/cmdline" || return 1
    echo "$pid"
}

engine_alive() {
    engine_pid dockerd > /dev/null \
        && docker -H "unix://$(engine_socket)" version > /dev/null 2>&1
}

engine_up() {
    local run
    run=$(engine_run)
    export DOCKER_HOST="unix://$run/docker.sock"
    # The classic builder, and no settings of the user who runs this.
    export DOCKER_BUILDKIT=0 DOCKER_CONFIG="$IT/docker-config"
    engine_alive && return
    # Whatever half of it a killed run has left.
    engine_end dockerd
    engine_end containerd
    mkdir -p "$run" "$IT/engine" "$DOCKER_CONFIG"
    rm -f "$run"/*.sock "$run"/*.ttrpc "$IT/dockerd.pid" "$IT/containerd.pid"

    cat > "$IT/containerd.toml" << TOML
version = 2
root = "$IT/engine/containerd"
state = "$run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$IT/engine/opt"
TOML
    setsid containerd --config "$IT/containerd.toml" \
        > "$IT/containerd.log" 2>&1 < /dev/null 9>&- &
    echo $! > "$IT/containerd.pid"
    engine_wait containerd test -S "$run/containerd.sock"

    ip link show "$engine_bridge" > /dev/null 2>&1 || ip link add "$engine_bridge" type bridge
    ip addr replace "$engine_net.0.1/24" dev "$engine_bridge"
    ip link set "$engine_bridge" up
    echo '{}' > "$IT/dockerd.json"
    # One start at a time on this machine, because of the firewall rules.
    exec 8> /run/lock/toolcrib-it
    flock 8
    rules_save > "$IT/rules"
    setsid dockerd \
        --host "unix://$run/docker.sock" --containerd "$run/containerd.sock" \
        --data-root "$IT/engine/docker" --exec-root "$run/docker" --pidfile "$run/dockerd.pid" \
        --config-file "$IT/dockerd.json" --bridge "$engine_bridge" \
        --default-address-pool "base=$engine_net.128.0/17,size=26" \
        > "$IT/dockerd.log" 2>&1 < /dev/null 8>&- 9>&- &
    echo $! > "$IT/dockerd.pid"
    engine_wait dockerd docker version
    rules_restore < "$IT/rules"
    exec 8>&-
}

# Engines share their firewall chains, and one that starts empties them. So
# the rules of the others are put back, last one first, in front of its own.
rules_save() {
    local table
    for table in filter nat; do
        iptables-save -t "$table" | sed -n "/^-A DOCKER/s/^-A /$table /p"
    done | grep -vE -- "^[^ ]+ [^ ]+ -j RETURN|$engine_bridge|$engine_net\." | tac || true
}

rules_restore() {
    local table rule
    while read -r table rule; do
        # shellcheck disable=SC2086
        iptables -t "$table" -C $rule 2> /dev/null || iptables -t "$table" -I $rule
    done
}

# Waits for a daemon to answer, and shows its log if it ends or never does.
# Only whether its process lives is asked: just forked, it has no name yet.
engine_wait() {
    local name=$1 tries=0 pid
    shift
    pid=$(cat "$IT/$name.pid")
    until "$@" > /dev/null 2>&1; do
        if [ ! -d "/proc/$pid" ] || [ $((tries += 1)) -gt 300 ]; then
            tail -n 40 "$IT/$name.log" >&2
            echo "$name did not start, its log is above" >&2
            return 1
        fi
        sleep 0.1
    done
}

# Ends one daemon of ours, by its pid, and waits until it is gone.
engine_end() {
    local pid tries=0
    if pid=$(engine_pid "$1"); then
        kill "$pid" 2> /dev/null || true
        while [ -d "/proc/$pid" ]; do
            [ $((tries += 1)) -ne 200 ] || kill -9 "$pid" 2> /dev/null || true
            sleep 0.1
        done
    fi
    rm -f "$IT/$1.pid"
}

# What ran in an engine that was killed: the shims name our socket, and the
# containers are their children.
engine_orphans() {
    local shim child
    for shim in $(grep -lsaF "$(engine_run)/containerd.sock" /proc/[0-9]*/cmdline | cut -d/ -f3); do
        case $(cat "/proc/$shim/comm" 2> /dev/null) in containerd-shim*) ;; *) continue ;; esac
        for child in $(cat "/proc/$shim"/task/*/children 2> /dev/null); do
            kill -9 "$child" 2> /dev/null || true
        done
        kill -9 "$shim" 2> /dev/null || true
    done
}

# Containers, networks and volumes go, images stay for the next run.
engine_down() {
    local table rule run
    DOCKER_HOST=unix://$(engine_socket)
    export DOCKER_HOST
    if engine_alive; then
        docker ps -aq | xargs -r docker rm -f -v > /dev/null || true
        docker network ls -q --filter type=custom | xargs -r docker network rm > /dev/null || true
        docker volume ls -q | xargs -r docker volume rm -f > /dev/null || true
    fi
    engine_end dockerd
    engine_end containerd
    engine_orphans
    # dockerd leaves its firewall rules behind. Only those of our bridge go.
    for table in filter nat; do
        iptables-save -t "$table" 2> /dev/null \
            | sed -n "/$engine_bridge\|$engine_net\./s/^-A /-D /p" \
            | while read -r rule; do
                # shellcheck disable=SC2086
                iptables -t "$table" $rule || true
            done
    done
    ip link del "$engine_bridge" 2> /dev/null || true
    run=$(engine_run)
    # The latest mount goes first.
    cut -d' ' -f2 /proc/mounts | grep -F -e "$run/" -e "$IT/engine/" | tac | xargs -r -n1 umount -l || true
    rm -rf "$run" "$IT/run-folder"
}
