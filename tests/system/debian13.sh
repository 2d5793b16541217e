#!/bin/sh
# Makes the root directory of a Debian 13 with systemd and Python; nothing where it is there already.
#   debian13.sh TREE WHY      WHY is the file that says why there is none
set -eu
tree=$1 why=$2
[ -e "$tree/complete" ] && exit 0

give_up() {
    echo "no Debian 13 to try systemd 257 on: $1" | tee "$why" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || give_up "making it needs root"
command -v debootstrap >/dev/null || give_up "apt-get install --no-install-recommends debootstrap"
rm -rf "$tree" "$why"
# The log is beside it: debootstrap's own ends in the tree.
if ! timeout 300 debootstrap --variant=minbase \
    --include=systemd,dbus,python3,python3-venv,iproute2,procps \
    trixie "$tree" >"$tree.log" 2>&1; then
    rm -rf "$tree"
    give_up "debootstrap: $(tail -n 1 "$tree.log")"
fi
rm -rf "$tree"/var/cache/apt/archives/*.deb
touch "$tree/complete"
