#!/bin/sh
# Runs in a mount namespace of its own and becomes systemd-nspawn: a real systemd as PID 1 on a
# throw-away layer over TREE, which is / for this machine's own systemd. Whatever is written inside
# goes to memory and is gone when the namespace is.
# In the namespace of a machine that has been shut down it boots that again, with what it had written.
#   stage.sh NAME DIR TREE [nspawn options]
set -eu
name=$1 dir=$2 tree=$3
shift 3
root=$dir/root

set_up() {
    mount -t tmpfs -o mode=0755 layer "$dir"
    mkdir "$dir/changes" "$dir/work" "$root"
    mount -t overlay -o "lowerdir=$tree,upperdir=$dir/changes,workdir=$dir/work" overlay "$root"

    # systemd inside wants one unified cgroup tree, whatever this machine has, and a branch to itself.
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p "/sys/fs/cgroup/$name"
    # nspawn keeps files in /run: they are no business of this machine's.
    mount -t tmpfs -o mode=0755 run /run

    # Nothing that this machine starts at boot may start inside, and no login prompts.
    rm -f "$root/.dockerenv"
    find "$root"/etc/rc?.d -name 'S*' -delete 2>/dev/null || true
    find "$root/etc/systemd/system" -mindepth 2 -path '*.wants/*' -delete
    for unit in systemd-logind.service getty.target console-getty.service; do
        ln -sfn /dev/null "$root/etc/systemd/system/$unit"
    done
    # A superezio that is installed on this machine must not be the one that is tested.
    rm -rf "$root/etc/superezio" "$root"/etc/systemd/system/superezio* "$root/var/lib/superezio" \
        "$root"/usr/lib/systemd/system/superezio* "$root"/usr/local/bin/superezio*
    mkdir -p "$root/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' \
        >"$root/etc/systemd/journald.conf.d/tests.conf"
}

[ -d "$root" ] || set_up
echo $$ >"/sys/fs/cgroup/$name/cgroup.procs"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin NOTIFY_SOCKET="$NOTIFY_SOCKET" \
    systemd-nspawn --quiet --boot --notify-ready=yes --directory="$root" --machine="$name" \
    --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off \
    --timezone=off --console=pipe --capability=CAP_BPF --system-call-filter=bpf "$@" \
    systemd.unit=multi-user.target systemd.log_target=journal
