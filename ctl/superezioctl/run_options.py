"""The options of superezioctl run that are its own: what a revoked lease does, and containers."""

from __future__ import annotations

from superezioctl.arguments import Option, UsageError, one_of, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.arguments import Arguments


def _read_on_revoke(text: str) -> str:
    if text in {"term", "ignore"} or (text.startswith("exec=") and text != "exec="):
        return text
    raise ValueError(f"cannot use {text!r}: it has to be term, exec=COMMAND or ignore")


def _read_grace(text: str) -> float:
    return float("inf") if text == "never" else seconds(text)


ON_REVOKE = (
    Option(
        "--on-revoke",
        "when the lease is revoked: term ends the command with SIGTERM, exec=COMMAND runs a "
        "shell command, ignore does nothing",
        metavar="WHAT",
        convert=_read_on_revoke,
        default="term",
        offers=("term", "exec=", "ignore"),
    ),
    Option(
        "--revoke-grace",
        "SIGKILL follows SIGTERM after so long, or never (default: shortly before the lease is "
        "lost, and never later)",
        metavar="DURATION",
        convert=_read_grace,
    ),
)

CONTAINER = (
    Option(
        "--container",
        "the command runs a container: the lease, its GPUs and --on-revoke are the container's",
        metavar="ENGINE",
        convert=one_of("podman", "docker"),
    ),
    Option(
        "--pass-gpus",
        "how the container gets its GPUs: cdi (--device nvidia.com/gpu=UUID), gpus (docker's "
        "--gpus), or none, where the command line does that (default: cdi)",
        metavar="HOW",
        convert=one_of("cdi", "gpus", "none"),
    ),
)


def check(arguments: Arguments) -> None:
    """Raise UsageError for options that cannot be meant together."""
    if arguments["revoke_grace"] is not None and arguments["on_revoke"] != "term":
        raise UsageError("--revoke-grace is for --on-revoke=term: nothing else is killed")
    if arguments["pass_gpus"] is not None and arguments["container"] is None:
        raise UsageError("--pass-gpus is for --container: how the container gets its GPUs")
