#!/bin/sh
# What a container sees of its confinement, one `key: value` in a line.
say() { echo "$1: $2"; }

say uid "$(id -u)"
say gid "$(id -g)"
say groups "$(id -G)"
say pid "$$"
for key in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp; do
    say "$key" "$(sed -n "s/^$key:[[:space:]]*//p" /proc/self/status)"
done

# The last mount on / wins.
say root "$(awk '$2 == "/" { o = $4 } END { split(o, a, ","); print a[1] }' /proc/mounts)"
if touch /.written 2> /dev/null; then
    rm -f /.written
    say root-writable yes
else
    say root-writable no
fi
say mounts "$(awk '{ print $2 "(" $3 ")" }' /proc/mounts | sort | tr '\n' ' ')"

# Version 1 has a folder for each controller, version 2 one for all.
limit() {
    for file in "$@"; do
        if [ -r "/sys/fs/cgroup/$file" ]; then
            cat "/sys/fs/cgroup/$file"
            return
        fi
    done
    echo unknown
}
say pids-max "$(limit pids.max pids/pids.max)"
say memory-max "$(limit memory.max memory/memory.limit_in_bytes)"
say memory-swap-max "$(limit memory.swap.max memory/memory.memsw.limit_in_bytes)"
if [ -r /sys/fs/cgroup/cpu.max ]; then
    say cpu-max "$(cat /sys/fs/cgroup/cpu.max)"
else
    say cpu-max "$(limit cpu/cpu.cfs_quota_us) $(limit cpu/cpu.cfs_period_us)"
fi

say interfaces "$(sed -n 's/^ *\([^ :]*\):.*/\1/p' /proc/net/dev | sort | tr '\n' ' ')"
say addresses "$(ip -o addr 2> /dev/null | awk '{ print $2 "=" $4 }' | tr '\n' ' ')"
say routes "$(ip route 2> /dev/null | tr '\n' ';')"
say engine-socket "$(ls /var/run/docker.sock /run/docker.sock 2> /dev/null | tr '\n' ' ')"
say hostname "$(hostname)"
say environment "$(env | sed 's/=.*//' | sort | tr '\n' ' ')"
