"""GPUs, their driver and the probes that read them."""

from __future__ import annotations

from typing import Final

from supereziod.catalog.explained import Explained

_SHOW: Final = "superezioctl gpu show @GPU@"
_LIST: Final = "superezioctl gpu list"
_HEALTH: Final = "superezioctl health"
_OF_THIS_GPU: Final = "journalctl -u superezio -b GPU=@GPU@"
_KERNEL: Final = "journalctl -k -b -g 'NVRM|Xid'"
_SPACE: Final = "df -h /var/lib/superezio"

EXPLAINED: Final[dict[str, Explained]] = {
    "driver.found": Explained(
        "The NVIDIA driver answers",
        "GPUs are read, and leased as far as they are well.",
        "Nothing.",
        (_LIST,),
    ),
    "driver.lost": Explained(
        "The NVIDIA driver is gone or does not answer",
        "No GPU can be read, so that none takes a new lease. Leases stand, and programs that run go"
        " on if the driver lets them. After an upgrade of the driver without a reboot its library"
        " and its module do not fit each other.",
        "Look whether the module is loaded and of the library's version; reboot after an upgrade."
        " The daemon tries again by itself.",
        ("superezioctl doctor", "nvidia-smi", _KERNEL),
    ),
    "probe.started": Explained(
        "A process that reads the GPUs was started",
        "The daemon reads the driver in a process of its own, because a call may never return.",
        "Nothing.",
        (_LIST,),
    ),
    "probe.lost": Explained(
        "The process that reads the GPUs ended or fell silent",
        "What it read is not known until its replacement, which starts by itself, has read it anew."
        " Until then those GPUs take no new lease.",
        "If it comes again and again, the driver is in trouble: see the kernel's lines.",
        (_HEALTH, _KERNEL),
    ),
    "probe.stuck": Explained(
        "A call of the driver does not return, and its process cannot be ended",
        "Not even the kernel can end it. The GPU that it hangs on is unknown and takes no lease;"
        " the others are read by a process of their own.",
        "Save what runs on the other GPUs, and reboot when it suits: only that helps.",
        (_HEALTH, _KERNEL),
    ),
    "probe.detached": Explained(
        "The daemon has let go of the driver, as asked",
        "No GPU is read and no lease granted. Leases stand.",
        "Do what you wanted to do with the driver, then attach.",
        ("superezioctl gpu attach",),
    ),
    "probe.attached": Explained(
        "The daemon has taken hold of the driver again",
        "GPUs are read, and leased as far as they are well.",
        "Nothing.",
        (_LIST,),
    ),
    "probe.garbled": Explained(
        "The process that reads the GPUs sent what cannot be understood",
        "It is replaced. An upgrade that changed the daemon's files while it ran can do that.",
        "Restart the daemon after an upgrade. No lease is lost by that.",
        ("systemctl restart superezio.service",),
    ),
    "probe.said": Explained(
        "The process that reads the GPUs wrote to its error output",
        "The field LINE has it: mostly a message of NVIDIA's library.",
        "Read it together with the kernel's lines.",
        (_KERNEL,),
    ),
    "gpu.status": Explained(
        "A GPU is seen differently",
        "STATUS is ok, unknown (it does not answer in time), lost (the driver has lost it) or"
        " detached. Only one that is ok takes a new lease; leases on it stand.",
        "Unknown mostly ends by itself. A lost GPU needs a reset or a reboot: see its power and"
        " seating if it comes back.",
        (_SHOW, _OF_THIS_GPU, _KERNEL),
    ),
    "gpu.level": Explained(
        "A GPU reached another thermal level",
        "WARM: other GPUs are preferred. HOT: it takes no new lease. CRITICAL: its leases are told"
        " to end, and past the grace the host is unhealthy. UNKNOWN: no fresh temperature, so that"
        " it takes no new lease.",
        "From HOT on look at fans, dust and the air in the case, and at what runs there.",
        (_SHOW, "superezioctl gpu history @GPU@", "superezioctl gpu processes @GPU@"),
    ),
    "gpu.fitness": Explained(
        "The trust in a GPU changed",
        "It was under suspicion, in quarantine (it takes no lease), or on probation, by the faults"
        " that the driver reported, and earns its way back by staying clean. Each relapse doubles"
        " the quarantine.",
        "In quarantine: see which faults it had. If they come back, test the card in another slot"
        " or replace it.",
        (_SHOW, "journalctl -u superezio EVENT=gpu.xid GPU=@GPU@"),
    ),
    "gpu.xid": Explained(
        "The driver reported a fault of a GPU",
        "The field XID has its number. 13, 31, 43, 45 and 68 are mostly a program's own mistake;"
        " 48, 63, 64, 79 and 95 are the card, its memory, its power or its slot.",
        "Look the number up in NVIDIA's list of XID errors, and see which program was concerned.",
        (_SHOW, _KERNEL),
    ),
    "gpu.cordoned": Explained(
        "An administrator keeps new leases off a GPU",
        "Leases on it stand. The cordon outlives restarts and reboots, unless health has"
        " state_not_kept. The audit record beside this line says who did it.",
        "Take it off when the work is done.",
        ("superezioctl gpu uncordon @GPU@", "journalctl -u superezio AUDIT=1 GPU=@GPU@"),
    ),
    "gpu.uncordoned": Explained(
        "A GPU may be leased again",
        "The cordon is off, for good unless health has state_not_kept. Whatever else keeps leases"
        " off it is not concerned.",
        "Nothing.",
        (_SHOW,),
    ),
    "gpu.overcommitted": Explained(
        "More VRAM of a GPU is in use or promised than it has, or no longer",
        "A holder took more than it reserved, or a program without a lease came in. The next"
        " allocation of anybody on it may fail.",
        "See who grew: the line names pids. Stop one, or give its lease what it uses.",
        ("superezioctl gpu processes @GPU@", _SHOW),
    ),
    "gpu.tick_failed": Explained(
        "A look at the GPUs failed by a fault of the daemon",
        "The next one comes within a second. If it goes on, levels and states are out of date.",
        "Report the traceback of this line. Restart the daemon if it goes on.",
        (_HEALTH, "systemctl restart superezio.service"),
    ),
    "gpu.records_unreadable": Explained(
        "Stored cordons or quarantines cannot be read",
        "The field DOCUMENT says which. The daemon goes on without: a GPU that was cordoned or in"
        " quarantine may be leased.",
        "Set cordons again where they are needed.",
        (_LIST, "superezioctl gpu cordon GPU --reason REASON"),
    ),
    "gpu.records_not_written": Explained(
        "Cordons or quarantines cannot be stored",
        "They hold now, over restarts of the daemon, too; a reboot before they can be stored"
        " forgets them.",
        "Make room in, or mend, the file system of /var/lib/superezio.",
        (_SPACE, _HEALTH),
    ),
}
