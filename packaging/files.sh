#!/bin/sh
# Lays down what packaging/files.txt lists, takes it away again, or tells the system of it.
#   files.sh lay-down    every file, under DESTDIR if that is set
#   files.sh remove      every file away
#   files.sh stop        what a package does before they go: all units end, and none starts at boot
#   files.sh settle      what a package does when its files lie: users, directories, systemd
# The environment has PREFIX, where the commands are, and may have SYSTEMD, the version of systemd
# that the files are for (default: this machine's).
set -eu
here=$(dirname "$0")
DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/opt/superezio}

# Prints SOURCE TARGET for what belongs on this systemd.
files() {
    : "${SYSTEMD:=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')}"
    : "${SYSTEMD:?the version of systemd is not known: set SYSTEMD}"
    while read -r source target rest; do
        case $source in
        '#'* | '') continue ;;
        @SYSTEMD-*@)
            least=${source#@SYSTEMD-}
            [ "$SYSTEMD" -ge "${least%@}" ] || continue
            source=$target target=$rest
            ;;
        esac
        echo "$source $target"
    done <"$here/files.txt"
}

lay_down() {
    files | while read -r source target; do
        target=$DESTDIR$target
        mkdir -p "$(dirname "$target")"
        case $source in
        @PREFIX@/*) ln -sfn "$PREFIX/${source#@PREFIX@/}" "$target" ;;
        # A file of its own, and never one that something holds open.
        *) install -m 644 "$here/../$source" "$target" ;;
        esac
    done
}

stop() {
    systemctl stop superezio-overheat.service || true  # it would start again what is stopped
    systemctl stop superezio-models.slice || true
    systemctl disable --now superezio.socket superezio.service || true
    # One that has failed would be listed as failed, without a file, until the next boot.
    systemctl reset-failed 'superezio*' || true
    find /etc/systemd/system -path '*.wants/superezio-model@*.service' -type l -delete
}

remove() {
    # What only a newer systemd has goes, too: this one may have been newer.
    SYSTEMD=999999 files | while read -r _ target; do
        rm -f "$DESTDIR$target"
        directory=$(dirname "$target")
        case ${directory##*/} in
        superezio*) rmdir --ignore-fail-on-non-empty "$DESTDIR$directory" 2>/dev/null || true ;;
        esac
    done
}

# Earlier installations put their files where an administrator's are. Their link says that there
# was one; without it, whatever lies there is the administrator's own.
leave_old_places() {
    [ "$(readlink /usr/local/bin/supereziod)" = "$PREFIX/bin/supereziod" ] || return 0
    rm -f /etc/systemd/system/superezio.service /etc/systemd/system/superezio.socket \
        /etc/sysusers.d/superezio.conf /etc/tmpfiles.d/superezio.conf \
        /usr/local/bin/superezioctl
    for unit in superezio.socket superezio.service; do
        for link in /etc/systemd/system/*.wants/$unit; do
            [ -L "$link" ] && ln -sfn /usr/lib/systemd/system/$unit "$link"
        done
    done
    rm -f /usr/local/bin/supereziod  # last: what is cut short is done again
}

settle() {
    leave_old_places
    systemd-sysusers superezio.conf
    systemd-tmpfiles --create superezio.conf
    runuser -u superezio -- "$PREFIX/bin/python" -c 'import supereziod' || {
        echo "the user superezio cannot run this Python;" \
            "name one for all users: make install PYTHON=/usr/bin/python3" >&2
        exit 1
    }
    if [ -e /usr/lib/systemd/catalog/superezio.catalog ]; then journalctl --update-catalog; fi
    systemctl daemon-reload
    # A daemon that runs is restarted, which no lease notices, and no start limit may refuse.
    if systemctl is-active --quiet superezio.service; then
        systemctl reset-failed superezio.socket superezio.service
        systemctl restart superezio.service
    else
        echo "superezio.service does not run. To start it, now and at boot:" \
            "systemctl enable --now superezio.socket superezio.service"
    fi
}

case ${1:-} in
lay-down) lay_down ;;
stop) stop ;;
remove) remove ;;
settle) settle ;;
*)
    echo "usage: files.sh lay-down | stop | remove | settle" >&2
    exit 2
    ;;
esac
