"""The options that say what a lease needs: the same for run, explain and lease acquire."""

from __future__ import annotations

from superezioctl.arguments import Option, one_of, positive, seconds, size, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.arguments import Arguments

PLACEMENT = (
    Option(
        "--vram",
        "what is needed on each GPU: 8GiB, 512MiB, 10GB",
        metavar="SIZE",
        convert=size,
        required=True,
    ),
    Option("--gpus", "how many GPUs", metavar="N", convert=positive, default=1),
    Option(
        "--policy",
        "best_fit (the fullest that fits), spread (the emptiest) or exclusive",
        metavar="POLICY",
        convert=one_of("best_fit", "spread", "exclusive"),
        default="best_fit",
    ),
    Option("--prefer", "a GPU to take if it fits, by UUID", metavar="UUID", repeat=True),
    Option("--avoid", "a GPU to take only if no other fits, by UUID", metavar="UUID", repeat=True),
)

LEASE = (
    *PLACEMENT,
    Option(
        "--wait",
        "how long to stand in the queue when nothing is free (default: not at all)",
        metavar="DURATION",
        convert=seconds,
    ),
    Option(
        "--sizes-itself",
        "the program takes a share of what it finds free (vLLM): let nothing else start meanwhile",
    ),
    Option("--name", "a name to show to people", metavar="NAME"),
    Option(
        "--priority",
        "go before those with less, as far as your role allows",
        metavar="N",
        convert=whole,
        default=0,
    ),
)


def placement_params(arguments: Arguments) -> dict[str, Any]:
    """Return the parameters that `PLACEMENT` makes."""
    return {
        "vram_bytes": arguments["vram"],
        "count": arguments["gpus"],
        "policy": arguments["policy"],
        "prefer": arguments["prefer"],
        "avoid": arguments["avoid"],
    }


def lease_params(arguments: Arguments) -> dict[str, Any]:
    """Return the parameters that `LEASE` makes."""
    return {
        **placement_params(arguments),
        "name": arguments["name"],
        "wait_ms": round(wait_s(arguments) * 1000),
        "priority": arguments["priority"],
        "sizes_itself": arguments["sizes_itself"],
    }


def wait_s(arguments: Arguments) -> float:
    """Return how long to stand in the queue."""
    return arguments["wait"] or 0.0
