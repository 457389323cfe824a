#!/usr/bin/env bash
# Runs a command on a machine with real RDMA verbs devices: Debian's kernel with its
# soft-RoCE driver, in qemu. No hardware, no privilege and no KVM is needed: /dev/kvm of a
# virtual machine may be there and not work, so that all is emulated everywhere.
#
#   guest.sh [OPTION]... COMMAND [ARGUMENT]...
#     -t SECONDS   time limit of it all (300)
#     -m MIB       memory (3072), half of it on each of two NUMA nodes
#     -s FOLDER    a folder of this machine that the guest would not see otherwise, because
#                  it lies below /tmp, /run or /dev/shm; the current one is always there
#     -o FOLDER    a folder that the guest may write to, at the same place there
#
# The guest sees the file system of this machine read-only, with its own /tmp, /run and
# /dev/shm, and starts the command as root in the current folder. It has the devices rxe0
# (10.78.0.1) and rxe1 (10.79.0.1), whose GID of index 1 is that of IPv4, two processors
# and an unlimited memlock; SOFT_ROCE=1 is in its environment.
#
# The exit status is the command's; 124 when the time was not enough, 125 when the guest
# came to no end of its own, 77 after a line "SKIP: reason" when there can be no guest.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
limit=300
memory=3072
declare -a shared=("$PWD" "$(pwd -P)") written=()
while getopts t:m:s:o: option; do
    case $option in
    t) limit=$OPTARG ;;
    m) memory=$OPTARG ;;
    s) shared+=("$(cd "$OPTARG" && pwd)" "$(cd "$OPTARG" && pwd -P)") ;;
    o) written+=("$(cd "$OPTARG" && pwd -P)") ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [[ $# -eq 0 ]]; then
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 2
fi

if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "SKIP: no qemu-system-x86_64 (package qemu-system-x86)"
    exit 77
fi
image=$("$here/image.sh" 2> >(cat >&2)) || exit $?

work=$(mktemp -d)
qemu=
# shellcheck disable=SC2317 # called by trap
finish() {
    # this is timeout, which passes the signal on
    [[ -z $qemu ]] || { kill -TERM "$qemu" && wait "$qemu"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
mkdir "$work/job"

# What busybox does before the root changes: fresh folders hide what lay there, so that
# those to share are mounted once more, from a second view of the file system.
{
    echo "(sleep $((limit + 20)); poweroff -f) &" # whatever becomes of the one outside
    cat <<'SETUP'
mkdir -p /view && mount --bind /host /view
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t devtmpfs dev /host/dev
for folder in /tmp /run /dev/shm; do
    mkdir -p /host$folder 2>/dev/null
    mount -t tmpfs -o mode=1777 tmpfs /host$folder
done
shared() { mkdir -p "/host$1" && mount --bind "/view$1" "/host$1"; }
written() { mkdir -p "/host$2" 2>/dev/null; mount -t 9p -o $share "out$1" "/host$2"; }
SETUP
    for folder in "${shared[@]}"; do
        case $folder in
        /tmp/* | /run/* | /dev/shm/*) printf 'shared %q\n' "$folder" ;;
        esac
    done
    for i in "${!written[@]}"; do
        printf 'written %d %q\n' "$i" "${written[i]}"
    done
    cat <<'SETUP'
mkdir -p /host/run/job && mount --bind /job /host/run/job
chroot /host /bin/bash /run/job/start
echo $? >/job/status
sync
SETUP
} >"$work/job/setup"

# What this machine's bash does after that.
{
    cat <<'START'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/tmp LC_ALL=C.UTF-8 SOFT_ROCE=1
mkdir -p /dev/hugepages
ulimit -l unlimited
ulimit -n 65536
ip link set lo up
for n in 0 1; do
    ip link set "eth$n" up && ip addr add "10.7$((8 + n)).0.1/24" dev "eth$n" &&
        rdma link add "rxe$n" type rxe netdev "eth$n" || exit 125
done
for n in 0 1; do # the GID of an address comes a moment after the address
    for _ in $(seq 100); do
        grep -q ffff "/sys/class/infiniband/rxe$n/ports/1/gids/1" && break
        sleep 0.1
    done
done
START
    printf 'cd %q || exit 125\necho; echo guest-start\n' "$PWD"
    printf '%q ' "$@"
} >"$work/job/start"

half=$((memory / 2))
share="security_model=none,multidevs=remap"
declare -a machine=(-machine q35 -accel "tcg,thread=multi" -cpu max
    -m "$memory" -smp "2,sockets=2"
    -object "memory-backend-ram,id=m0,size=${half}M"
    -object "memory-backend-ram,id=m1,size=${half}M"
    -numa "node,nodeid=0,cpus=0,memdev=m0" -numa "node,nodeid=1,cpus=1,memdev=m1"
    -display none -monitor none -serial stdio -no-reboot
    -kernel "$image/vmlinuz" -initrd "$image/initrd"
    -append "console=ttyS0 quiet panic=-1"
    -virtfs "local,path=/,mount_tag=host,readonly=on,$share"
    -virtfs "local,path=$work/job,mount_tag=job,$share"
    -netdev "user,id=n0,restrict=on,ipv6=off" -device "virtio-net-pci,netdev=n0"
    -netdev "user,id=n1,restrict=on,ipv6=off" -device "virtio-net-pci,netdev=n1")
for i in "${!written[@]}"; do
    machine+=(-virtfs "local,path=${written[i]},mount_tag=out$i,$share")
done

mkfifo "$work/console"
tee "$work/log" <"$work/console" |
    sed -u -e 's/\r//g' -e '1,/^guest-start/d' -e '/reboot: Power down/d' &
reader=$!
timeout -k 5 "$limit" qemu-system-x86_64 "${machine[@]}" </dev/null >"$work/console" 2>&1 &
qemu=$!
ended=0
wait "$qemu" || ended=$?
qemu=
wait "$reader" || true
if [[ -s $work/job/status ]]; then
    exit "$(<"$work/job/status")"
fi
grep -q '^guest-start' "$work/log" || tail -n 40 "$work/log" >&2
if [[ $ended -eq 124 ]]; then
    echo "the guest did not finish within $limit s" >&2
    exit 124
fi
echo "the guest ended before its command did (qemu's exit status $ended)" >&2
exit 125
