"""Leases of VRAM, and the queue for them."""

from __future__ import annotations

from typing import Final

from supereziod.catalog.explained import Explained

_SHOW: Final = "superezioctl lease show @LEASE@"
_STORY: Final = "superezioctl logs --lease @LEASE@"
_QUEUE: Final = "superezioctl queue"

EXPLAINED: Final[dict[str, Explained]] = {
    "lease.queued": Explained(
        "A program waits for VRAM",
        "No GPU has what it asked for now. It is served in order, and REASON says what it waits"
        " for.",
        "Nothing, unless it waits for what will not end: see who holds the GPUs.",
        (_QUEUE, "superezioctl lease list"),
    ),
    "lease.position": Explained(
        "The place of a waiting program changed",
        "It moved in the queue, or waits for another reason.",
        "Nothing.",
        (_QUEUE,),
    ),
    "lease.cancelled": Explained(
        "A waiting program was taken out of the queue",
        "It was told so, and got no lease. BY_UID says whose doing it was.",
        "Nothing. If it was another user's doing, there is an audit record of it.",
        ("superezioctl logs --audit", _QUEUE),
    ),
    "lease.expired": Explained(
        "A program stopped waiting for VRAM: its time was up",
        "It got no lease and was told why.",
        "If that is often so, see who holds the GPUs, and whether it is idle.",
        ("superezioctl lease list", _QUEUE),
    ),
    "lease.granted": Explained(
        "VRAM was leased",
        "The lease @LEASE@ has its VRAM until it is given back or its processes end.",
        "Nothing.",
        (_SHOW, _STORY),
    ),
    "lease.active": Explained(
        "A lease is in use",
        "Its processes use VRAM for the first time.",
        "Nothing.",
        (_SHOW,),
    ),
    "lease.grown": Explained(
        "A lease has grown to its size",
        "What it uses is stable or known, so that others may start on its GPU.",
        "Nothing.",
        (_SHOW,),
    ),
    "lease.attached": Explained(
        "A further process holds a lease",
        "The lease ends with the last of its processes.",
        "Nothing.",
        (_SHOW,),
    ),
    "lease.orphaned": Explained(
        "The connection of a lease is gone",
        "Its program has some seconds to come back for it; then the lease is lost.",
        "Nothing, if the program restarts. Else see whether it crashed.",
        (_SHOW, _STORY),
    ),
    "lease.draining": Explained(
        "A lease was told to end",
        "REASON says for whom or what: its owner, an administrator, heat, or overuse. At the"
        " deadline (DEADLINE_S) it is lost; the daemon itself ends no process.",
        "If the program does not react by then, end it, as what it uses counts as foreign.",
        (_SHOW, "superezioctl gpu processes"),
    ),
    "lease.acknowledged": Explained(
        "The holder of a lease will end it in time",
        "It heard the order and agreed.",
        "Nothing. Its end is logged.",
        (_STORY,),
    ),
    "lease.refused": Explained(
        "The holder of a lease will not end it",
        "It heard the order and refused; the deadline stands, and the lease is lost then, though"
        " its processes may go on.",
        "Talk to its owner, or end the processes.",
        (_SHOW, "superezioctl gpu processes"),
    ),
    "lease.kept": Explained(
        "A lease may stay after all",
        "What it was to end for is over.",
        "Nothing.",
        (_SHOW,),
    ),
    "lease.released": Explained(
        "A lease ended as it should",
        "It was given back, or its last process ended. Its VRAM is offered to others when the"
        " driver shows it free.",
        "Nothing.",
        (_STORY,),
    ),
    "lease.lost": Explained(
        "A lease ended without having been given back",
        "Its connection, its TTL or its deadline ran out, or it could not be taken over after a"
        " restart. The program may still run and use VRAM, which counts as foreign use then.",
        "See whether its processes are there. End them, or lease for them anew. Where the file of"
        " leases was corrupt, that is so of all that ran: the line says where it was moved to.",
        ("journalctl -u superezio EVENT=lease.lost -n 50", "superezioctl gpu processes"),
    ),
    "lease.overrun": Explained(
        "A program uses more VRAM than it reserved",
        "The lease @LEASE@ was raised to what it uses, so that nobody is promised that VRAM.",
        "Ask its owner to reserve what it needs: others had counted on that VRAM.",
        (_SHOW, "superezioctl gpu processes"),
    ),
    "lease.idle": Explained(
        "Nothing has been used of a lease for long",
        "Its VRAM is kept for a program that does nothing with it. IDLE_S says for how long.",
        "Ask its owner to give it back, or order it to end if others wait.",
        (_QUEUE, "superezioctl lease revoke @LEASE@ --reason 'others wait'"),
    ),
    "lease.unreturned": Explained(
        "The VRAM of a lease that ended is still in use, or no longer",
        "A process of it lives on, or the driver has not freed what it held. It counts as foreign"
        " use, and nobody is promised it.",
        "See who holds it, and end that process.",
        ("superezioctl gpu processes", "superezioctl gpu list"),
    ),
}
