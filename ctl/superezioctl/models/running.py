"""Running a model as its file says: `superezioctl run`, with its words taken from there."""

from __future__ import annotations

import os
import time
from typing import Final

from superezio.errors import GpusUnavailableError, SuperezioError
from superezio.quantities import format_size
from superezioctl.arguments import COMMON, Arguments, Reader
from superezioctl.commands import run as running
from superezioctl.context import Context
from superezioctl.models.starting import ServiceManager, start_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from superezioctl.models.model import Model

#: How often it is looked whether a host without GPUs has some.
_LOOK_S: Final = 5.0
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

    patience = _Patience(model.wait_s)
    while True:
        # superezio-overheat.service starts the next model when this one says so.
        manager.tell(f"STATUS=waiting for a lease of {format_size(model.vram_bytes)}")
        try:
            return running.launch(inner, leased=leased, tell=manager.tell if manager else None)
        except SuperezioError as error:
            # Of a driver that is loaded late: to fail would use up the unit's starts in a minute.
            if isinstance(error, GpusUnavailableError) and not patience.is_over:
                manager.tell(f"STATUS=waiting for GPUs: {error.message}")
                patience.pause()
                continue
            manager.tell(f"STATUS=no lease: {error.message}")
            raise


class _Patience:
    """Pauses between looks for GPUs on a host that has none, until `wait_s` is over."""

    def __init__(self, wait_s: float) -> None:
        self._end = time.monotonic() + wait_s

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._end

    def pause(self) -> None:
        time.sleep(max(0.0, min(_LOOK_S, self._end - time.monotonic())))


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
