"""Running a model as its file says: `superezioctl run`, with its words taken from there."""

from __future__ import annotations

import os

from superezio.errors import SuperezioError
from superezio.quantities import format_size
from superezioctl.arguments import COMMON, Arguments, Reader
from superezioctl.commands import run as running
from superezioctl.context import Context
from superezioctl.models.starting import ServiceManager, start_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from superezioctl.models.model import Model

_INHERITED = ("socket", "timeout", "correlation_id", "json")


def enter(model: Model) -> None:
    """Take on the surroundings that the file has. Raises OSError for a working directory."""
    os.environ.update(model.environment)
    if model.working_directory is not None:
        os.chdir(model.working_directory)


def run(context: Context, name: str, model: Model) -> int:
    """Get the lease and become the server; returns only where that cannot be.

    Raises the exceptions of superezio.errors.
    """
    manager = ServiceManager(os.environ.get("NOTIFY_SOCKET"))
    inner = Context(
        arguments=_arguments(context, name, model),
        out=context.out,
        socket_path=context.socket_path,
    )

    def leased(lease: str, environment: MutableMapping[str, str]) -> None:
        # It is told of here; the server would tell of itself too early, or of nothing.
        environment.pop("NOTIFY_SOCKET", None)
        if model.ready is None:
            manager.tell("READY=1", f"STATUS=runs under the lease {lease}")
            return
        waits = f"STATUS=has the lease {lease}, waiting for {model.ready.in_words}"
        manager.tell(waits)
        start_beside(
            model.ready,
            manager=manager,
            environment=environment,
            say=lambda text: inner.out.note(f"superezioctl model: {name}: {text}"),
            when_ready=lambda: _tell_ready(inner, lease) if model.sizes_itself else None,
        )

    manager.tell(f"STATUS=waiting for a lease of {format_size(model.vram_bytes)}")
    try:
        return running.launch(inner, leased=leased, tell=manager.tell if manager else None)
    except SuperezioError as error:
        manager.tell(f"STATUS=no lease: {error.message}")
        raise


def words(name: str, model: Model) -> list[str]:
    """Return the words after `superezioctl run` that mean the same."""
    found = ["--vram", f"{model.vram_bytes}B", "--name", name, "--policy", model.policy]
    found += ["--priority", str(model.priority), "--wait", f"{round(model.wait_s * 1000)}ms"]
    if model.gpus is not None:
        found += ["--gpus", str(model.gpus)]
    for option, gpus in (("--prefer", model.prefer), ("--avoid", model.avoid)):
        for gpu in gpus:
            found += [option, gpu]
    found += ["--split"] * model.split + ["--sizes-itself"] * model.sizes_itself
    return [*found, "--", *model.command]


def _arguments(context: Context, name: str, model: Model) -> Arguments:
    command = running.COMMANDS["run"]
    reader = Reader((*command.options, *COMMON))
    reader.read_all(words(name, model), command.positionals)
    inherited = {key: context.arguments[key] for key in _INHERITED}
    return Arguments(reader.values | inherited)


def _tell_ready(context: Context, lease: str) -> None:
    try:
        context.call("lease.ready", {"lease": lease})
    except SuperezioError as error:
        context.out.note(f"superezioctl model: the daemon was not told: {error.message}")
