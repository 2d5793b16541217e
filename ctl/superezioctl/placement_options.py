"""The options that say what a lease needs: the same for run, explain and lease acquire."""

from __future__ import annotations

from superezioctl.arguments import Option, UsageError, one_of, positive, seconds, size, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.arguments import Arguments

PLACEMENT = (
    Option(
        "--vram",
        "what is needed on each GPU, or with --split in all: 8GiB, 512MiB, 10GB",
        metavar="SIZE",
        convert=size,
        required=True,
    ),
    Option("--gpus", "how many GPUs (default: 1)", metavar="N", convert=positive),
    Option(
        "--policy",
        "best_fit (the fullest that fits), spread (the emptiest), exclusive or coolest",
        metavar="POLICY",
        convert=one_of("best_fit", "spread", "exclusive", "coolest"),
        default="best_fit",
    ),
    Option(
        "--prefer",
        "a GPU to take if it fits, by its UUID, the beginning of one, or its index",
        metavar="GPU",
        repeat=True,
    ),
    Option("--avoid", "a GPU never to take, by the same", metavar="GPU", repeat=True),
    Option(
        "--split",
        "one amount: over as few GPUs as hold it, or over exactly --gpus N, from 2 up",
    ),
    Option(
        "--model",
        "a name: a GPU that your lease with the same name is on goes before others",
        metavar="NAME",
    ),
    Option(
        "--min-compute-capability",
        "only GPUs from this compute capability up: 8.6",
        metavar="X.Y",
    ),
    Option(
        "--compute-mode",
        "only GPUs in this mode: default or exclusive_process",
        metavar="MODE",
        convert=one_of("default", "exclusive_process"),
    ),
    Option("--no-display", "only GPUs of which it is known that they drive no display"),
)
#: What a daemon that is older does not know, and is told only where it is asked for.
_WISHES = ("split", "model", "min_compute_capability", "compute_mode", "no_display")

LEASE = (
    *PLACEMENT,
    Option(
        "--wait",
        "how long to stand in the queue when nothing is free, and to wait for a daemon that does "
        "not run (default: not at all)",
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
    """Return the parameters that `PLACEMENT` makes. Raises UsageError where they contradict."""
    if arguments["split"] and arguments["gpus"] == 1:
        raise UsageError(
            "--split is over several GPUs, and --gpus 1 is one: leave --split out, or leave --gpus "
            "out to have it over as few as hold it"
        )
    return {
        "vram_bytes": arguments["vram"],
        "count": arguments["gpus"] or 1,
        "policy": arguments["policy"],
        "prefer": arguments["prefer"],
        "avoid": arguments["avoid"],
        **{wish: arguments[wish] for wish in _WISHES if arguments[wish]},
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
