# Sourced by tests that need two machines: two network namespaces with a cable (veth)
# between them, each with a host name and a /sys of its own. They live as long as the two
# processes that hold them, and those as long as the test, so nothing has to be named in
# the system, and nothing can be left there.
# shellcheck shell=bash disable=SC2034
#
#   hosts_up || skip "$hosts_problem"
#   on a COMMAND...; on b COMMAND...      on the first, on the second; ${address[a]}
#   hosts_down                            also when the script ends: call it from a trap
declare -A holder=() address=([a]=198.18.0.1 [b]=198.18.0.2) # of no network: RFC 2544
hosts_problem=

on() {
    local pid=${holder[$1]}
    shift
    nsenter --target "$pid" --net --uts --mount --wd -- "$@"
}

hosts_down() {
    local host
    for host in "${!holder[@]}"; do
        kill "${holder[$host]}" 2>/dev/null
        wait "${holder[$host]}" 2>/dev/null
    done
    holder=()
}

# /sys/class/net shows the namespace that /sys was mounted in, and UCX reads it.
hold_host() {
    unshare --net --uts --mount sh -c "mount -t sysfs sysfs /sys && exec setpriv --pdeathsig KILL sleep 900" &
    holder[$1]=$!
    for _ in $(seq 100); do
        [[ $(cat "/proc/${holder[$1]}/comm") == sleep ]] && return 0
        kill -0 "${holder[$1]}" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

hosts_up() {
    local tool host
    for tool in ip unshare nsenter setpriv hostname; do
        command -v "$tool" >/dev/null || {
            hosts_problem="there is no $tool (packages iproute2, util-linux, hostname)"
            return 1
        }
    done
    if [[ $(id -u) -ne 0 ]]; then
        hosts_problem="network namespaces need root"
        return 1
    fi
    for host in a b; do
        if ! hold_host $host 2>/dev/null || ! on $host hostname "mrp-$host" 2>/dev/null; then
            hosts_problem="may not make network namespaces (CAP_SYS_ADMIN)"
            return 1
        fi
    done
    # straight from one into the other: this machine's own interfaces are not touched
    if ! on a ip link add cable type veth peer name cable netns "${holder[b]}" 2>/dev/null; then
        hosts_problem="may not make a veth device (CAP_NET_ADMIN, kernel module veth)"
        return 1
    fi
    for host in a b; do
        on $host ip link set lo up &&
            on $host ip address add "${address[$host]}/24" dev cable &&
            on $host ip link set cable up || return 1
    done
    for _ in $(seq 100); do # the kernel takes a moment to see that both ends are up
        [[ $(on a cat /sys/class/net/cable/operstate) == up &&
            $(on b cat /sys/class/net/cable/operstate) == up ]] && return 0
        sleep 0.05
    done
    hosts_problem="the veth device does not come up"
    return 1
}

# Bytes that have come through the cable to that host. sysfs is of this namespace's.
came_to() {
    on "$1" ip -statistics -json link show cable |
        sed 's/.*"rx":{"bytes":\([0-9]*\).*/\1/'
}
