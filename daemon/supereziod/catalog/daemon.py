"""The daemon itself: its life, configuration, watchdog, connections, log and files."""

from __future__ import annotations

from typing import Final

from supereziod.catalog.explained import Explained

_STATUS: Final = "systemctl status superezio.service"
_HEALTH: Final = "superezioctl health"
_THIS_START: Final = "journalctl -u superezio -b"
_WHOLE_REQUEST: Final = "superezioctl trace @CORRELATION_ID@"

EXPLAINED: Final[dict[str, Explained]] = {
    "daemon.started": Explained(
        "The superezio daemon is ready",
        "The socket answers. Leases that were granted before, in this boot, stand; GPUs that were"
        " not read yet take no new lease until they are.",
        "Nothing, if you started it. If nobody did, the lines before this one say why the run"
        " before it ended.",
        (_STATUS, _THIS_START),
    ),
    "daemon.stopping": Explained(
        "The superezio daemon was told to stop",
        "It lets requests in flight end and closes. Leases stand, and clients that connect through"
        " the socket wait for the next start.",
        "Nothing. Start it again when the work is done: nobody is granted a lease meanwhile.",
        ("systemctl start superezio.service",),
    ),
    "daemon.stopped": Explained(
        "The superezio daemon has stopped",
        "It ended in order. Leases stand until the host is booted again.",
        "Nothing, if it was to stop.",
        ("systemctl start superezio.service",),
    ),
    "daemon.ended_suddenly": Explained(
        "The run of the daemon before this one ended suddenly",
        "It was not told to stop: it was killed by a signal, by the kernel for want of memory or"
        " by systemd as it hung, it crashed, or its host lost power or did not wait. It lived for"
        " up to ten seconds after the line says that it was seen. Leases stand until the host"
        " is booted again.",
        "Read what the kernel, systemd and the daemon said last: of this boot, or of the one"
        " before. Report a crash with its traceback.",
        (
            "journalctl -u superezio -b -n 300",
            "journalctl -k -b -g 'out of memory|oom-kill|segfault'",
            "journalctl -b -1 -n 100",
        ),
    ),
    "config.reloaded": Explained(
        "The configuration was read again",
        "What can change in a running daemon has changed. The line names what waits for a restart.",
        "Restart it for the rest, if there is any. No lease is lost by that.",
        ("systemctl restart superezio.service",),
    ),
    "config.refused": Explained(
        "The new configuration is bad, and the old one stays in force",
        "A reload found a mistake; the line has file, line and key. The daemon goes on as before."
        " A restart, however, would fail until the file is mended.",
        "Mend the file, check it, and reload.",
        ("supereziod --check", "systemctl reload superezio.service"),
    ),
    "config.reload_failed": Explained(
        "A reload failed by a fault of the daemon",
        "The files may be fine: the daemon could not apply them, or not in full. It goes on with"
        " what was applied.",
        "Restart it, which applies all of it, and report the traceback of this line.",
        ("supereziod --check", "systemctl restart superezio.service"),
    ),
    "state.mended": Explained(
        "A file of the daemon's was gone, and is written anew",
        "Somebody or something removed, replaced or cut short a file that the daemon had open. All"
        " that was in it is in a new one now: no lease, cordon or budget is lost. What was put in"
        " its place was moved aside, and is not read.",
        "Find out who did it. Stop socket and service before you touch these files.",
        ("ls -l /run/superezio /var/lib/superezio",),
    ),
    "health.changed": Explained(
        "The verdict on this host, or the reasons for it, changed",
        "Degraded: something needs you, and what can go on goes on. Unhealthy: a GPU has been"
        " critically hot past its grace, and systemd will restart the daemon.",
        "See what is wrong now: each reason comes with what to do.",
        (_HEALTH,),
    ),
    "health.check_failed": Explained(
        "A check of health failed by a fault of the daemon",
        "What it looks at is not watched until it works again; all other checks go on.",
        "Report the traceback of this line. Restart the daemon if the check does not recover.",
        (_HEALTH, "systemctl restart superezio.service"),
    ),
    "host.resumed": Explained(
        "The host has slept",
        "What was read of the GPUs before counts for nothing; they are read anew before anything"
        " is granted. No lease has ended by the sleep.",
        "Nothing. If this is a server that should never sleep, find what suspended it.",
        ("journalctl -b -u systemd-logind -u systemd-suspend",),
    ),
    "watchdog.withheld": Explained(
        "Watchdog pings are withheld: systemd will restart the daemon",
        "The daemon has stopped its pings on purpose, and the line says why: a GPU stays"
        " critically hot, or the daemon does not answer itself. systemd aborts and restarts it."
        " After three such restarts in 15 minutes the unit is failed.",
        "Look at the heat first: fans, dust, and what runs on the GPU. Leases on it were told to"
        " end; whatever still runs there keeps heating it.",
        ("superezioctl gpu list", "superezioctl gpu processes", _STATUS),
    ),
    "watchdog.resumed": Explained(
        "Watchdog pings go out again",
        "What kept them back is over before systemd acted. Nothing was restarted for it.",
        "Find out why it came so far: see the temperatures of the last hour.",
        ("superezioctl gpu history 0", _HEALTH),
    ),
    "watchdog.restarted": Explained(
        "The watchdog ended an earlier run",
        "The line has the reason that was stored then. Leases have outlived the restart, and a GPU"
        " that is still critically hot takes no new one.",
        "Read what came before it, with the stacks of the threads that the abort has left.",
        ("journalctl -u superezio -n 300", _HEALTH),
    ),
    "watchdog.record_unreadable": Explained(
        "Why the last run ended cannot be read",
        "The stored reason is damaged and is taken for none. If the watchdog had acted for heat,"
        " the overheat unit does not know it.",
        "Look at the disk of /var/lib/superezio, and at the temperatures.",
        ("df -h /var/lib/superezio", "superezioctl gpu list"),
    ),
    "watchdog.record_not_stored": Explained(
        "The reason for withholding the watchdog cannot be stored",
        "It is kept in /run/superezio, where the next start and the overheat unit find it; a reboot"
        " forgets it.",
        "Make room in, or mend, the file system of /var/lib/superezio.",
        ("df -h /var/lib/superezio", "ls -ld /var/lib/superezio"),
    ),
    "watchdog.beat_failed": Explained(
        "A beat of the watchdog failed by a fault of the daemon",
        "One ping was not sent. If it goes on, systemd restarts the daemon.",
        "Report the traceback of this line.",
        (_STATUS,),
    ),
    "notify.failed": Explained(
        "systemd does not take the daemon's messages",
        "Readiness, status or watchdog pings do not arrive. If pings do not, systemd restarts the"
        " daemon though it is well.",
        "See whether systemd itself is stuck or was just updated.",
        (_STATUS, "journalctl -b _PID=1 -n 50"),
    ),
    "connection.dropped": Explained(
        "A connection was closed because it did not behave",
        "Its client sent what is no request, or did not read its answers; the line has its pid and"
        " user. Others are not concerned.",
        "Tell whoever runs that program. If it is many, look at who has so many connections.",
        ("superezioctl session list",),
    ),
    "connection.refused": Explained(
        "A connection was refused: there are too many",
        "The table of connections is full, or one user has all of its share. Those refused try"
        " again. At most one such line a while is written; REFUSED counts all.",
        "Find the program that opens so many, or raise the limit (limits.connections).",
        ("superezioctl session list", _HEALTH),
    ),
    "request.fault": Explained(
        "A request failed by a fault of the daemon",
        "The caller was told of an internal error and this correlation id. Nothing was done half:"
        " what the daemon records, it records before it answers.",
        "Report the traceback of this line, with what the request was.",
        (_WHOLE_REQUEST,),
    ),
    "quota.unknown_names": Explained(
        "There are quotas for users or groups that this host does not know",
        "They bind nobody until the host knows the name and the configuration is read again.",
        "Correct the names under [leases.quota], or bring the name service up and reload.",
        ("supereziod --check", "systemctl reload superezio.service"),
    ),
    "access.unknown_names": Explained(
        "The configuration gives rights to users or groups that this host does not know",
        "Those people are refused until the host knows the name and the configuration is read"
        " again. A missing group superezio means that sysusers.d was not applied.",
        "Make the groups, or correct the names under [access], and reload.",
        ("systemd-sysusers superezio.conf", "systemctl reload superezio.service"),
    ),
    "logging.dropped": Explained(
        "Log lines were lost",
        "Their reader, mostly journald, did not take them for so long that what is kept of them was"
        " full. What matters more has room of its own, so that these were the least important.",
        "See why journald was behind: its disk, its memory, or a flood of lines of others.",
        ("systemctl status systemd-journald.service", "journalctl --disk-usage"),
    ),
    "python": Explained(
        "A library that the daemon uses has something to say",
        "Mostly a fault of the daemon that stops nothing: the field LOGGER names the library.",
        "Report it, with its traceback if there is one.",
        (_THIS_START,),
    ),
    "audit.done": Explained(
        "An administrative act",
        "Somebody changed what is for administrators to change, or what is another user's. The"
        " line has who (user, process, unit, and who had logged in before sudo), what and on what."
        " OUTCOME=unchanged: there was nothing to do.",
        "Nothing, if you know of it. All that this request did has its correlation id.",
        ("superezioctl logs --audit", "journalctl -u superezio ACTION=@ACTION@"),
    ),
    "audit.refused": Explained(
        "An administrative act was refused",
        "Somebody tried what they may not do; nothing was changed. One user's attempts are recorded"
        " 20 at once and one a second from then on; LEFT_OUT counts what was not.",
        "If they should be able to, put them into the group that the line names, and have them log"
        " in again. If not, ask them.",
        ("superezioctl access", "journalctl -u superezio AUDIT=1 OUTCOME=refused"),
    ),
    "audit.failed": Explained(
        "An administrative act failed",
        "It was allowed and did not work; the line says why. Where its caller went away in the"
        " middle, what had begun may have taken effect: see the events around it.",
        "Do what the message says, and try again.",
        ("journalctl -u superezio AUDIT=1", "superezioctl status"),
    ),
    "audit.turned_away": Explained(
        "An administrative call was turned away",
        "It came too fast, or cannot be read; nobody looked at whether it was allowed, and nothing"
        " was changed. One user's are recorded 20 at once and one a second from then on, an"
        " admin's as well; LEFT_OUT counts what was not.",
        "If it was meant, do what the message says, and try again. If there are many, see which"
        " process sends them.",
        ("journalctl -u superezio AUDIT=1 OUTCOME=turned_away", "superezioctl session list"),
    ),
}
