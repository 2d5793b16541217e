"""superezioctl completion: scripts for shells."""

from __future__ import annotations

from superezioctl.arguments import Command, Positional, UsageError, one_of
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context

SHELLS = ("bash", "zsh", "fish")
#: What the scripts ask for while somebody types.
CANDIDATES = ("gpus", "leases", "methods", "breakers", "limits", "namespaces", "models", "keys")


def completion(context: Context) -> int:
    """Print a script, or the candidates that one asks for, a line each with a tab in it."""
    if context.out.json:
        raise UsageError("a script is for a shell: it is printed without --json")
    what = context.arguments["what"]
    if what in CANDIDATES:
        from superezioctl.completion import candidates  # noqa: PLC0415 - for these alone

        for value, text in candidates.ask(what, context.socket_path):
            context.out.raw(f"{value}\t{text}\n")
        return DONE
    module = __import__(f"superezioctl.completion.{what}", fromlist=["script"])
    context.out.raw(module.script())
    return DONE


COMMANDS = {
    "completion": Command(
        completion,
        positionals=[
            Positional(
                "WHAT",
                "bash, zsh or fish; the scripts themselves ask for gpus, leases, methods, "
                "breakers, limits, namespaces, models, keys",
                convert=one_of(*SHELLS, *CANDIDATES),
            )
        ],
        description="The scripts complete commands, options and their values; GPUs, leases and "
        "other names are asked of the daemon, for half a second at most.\n\nTo have it in every "
        "new shell: bash: put `source <(superezioctl completion bash)` into ~/.bashrc. zsh: put "
        "`source <(superezioctl completion zsh)` into ~/.zshrc, after compinit. fish: write the "
        "script to ~/.config/fish/completions/superezioctl.fish.",
        examples=[
            "source <(superezioctl completion bash)",
            "source <(superezioctl completion zsh)",
            "superezioctl completion fish | source",
        ],
    )
}
