"""systemd, through `systemctl` as a child: each call has a bound, and none of them hangs us.

A bound that passes ends the child alone. The job that it asked for goes on in systemd.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, Final

_LOOK_S: Final = 20.0
_NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
_ACTIVE: Final = frozenset({"active", "activating", "reloading"})
#: Units that hold processes; their patterns match what systemd has loaded.
_PATTERNS: Final = ("*.service", "*.scope")
ACTIVE_SINCE: Final = "ActiveEnterTimestampMonotonic"
_OF_A_UNIT: Final = ("Id", "Slice", "ActiveState", "Transient", ACTIVE_SINCE)


class SystemctlError(Exception):
    """systemctl failed; the message has what it said."""


class StillRunningError(SystemctlError):
    """The job was not done within its bound, and goes on."""


class Systemctl:
    """The calls that are made of it. `command` is the program."""

    def __init__(self, command: Sequence[str] = ("systemctl",)) -> None:
        self._command = tuple(command)

    async def start(self, unit: str, *, within_s: float) -> None:
        """Start a unit and wait until it is. Raises SystemctlError."""
        await self._call("start", "--", unit, within_s=within_s)

    async def stop(self, units: Sequence[str], *, within_s: float) -> None:
        """Stop units and wait until they are. Raises SystemctlError."""
        await self._call("stop", "--", *units, within_s=within_s)

    async def reset_failed(self, units: Sequence[str]) -> None:
        """Let units be started again after a failure. Raises SystemctlError."""
        await self._call("reset-failed", "--", *units, within_s=_LOOK_S)

    async def show(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit. Raises SystemctlError."""
        found = await self._show((unit,), names)
        return found[0] if found else {}

    async def running_in(self, slice_: str) -> list[dict[str, str]]:
        """Return Id, Transient and the time of its last being active, of what runs in a slice.

        That and those below it, by name; the time (ActiveEnterTimestampMonotonic) is 0 of one that
        was never active. Raises SystemctlError.
        """
        shown = await self._show(_PATTERNS, _OF_A_UNIT)
        below = slice_.removesuffix(".slice") + "-"
        found = {
            each["Id"]: each
            for each in shown
            if each.get("ActiveState") in _ACTIVE
            and (each.get("Slice") == slice_ or each.get("Slice", "").startswith(below))
        }
        return [found[name] for name in sorted(found)]

    async def _show(self, units: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
        wanted = f"--property={','.join(names)}"
        text = await self._call("show", "--no-pager", wanted, "--", *units, within_s=_LOOK_S)
        return parse_properties(text)

    async def _call(self, *arguments: str, within_s: float) -> str:
        words = f"systemctl {' '.join(arguments)}"
        # No pipes: what systemctl starts itself could keep them open beyond its end.
        with _memory() as out, _memory() as err:
            try:
                child = await asyncio.create_subprocess_exec(
                    *self._command,
                    # Nobody is there to answer.
                    "--no-ask-password",
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=_environment(),
                )
            except OSError as error:
                raise SystemctlError(f"cannot run {words}: {error}") from error
            try:
                async with asyncio.timeout(within_s):
                    await child.wait()
            except TimeoutError:
                raise StillRunningError(f"{words} is not done after {within_s:g} s") from None
            finally:
                if child.returncode is None:
                    with suppress(ProcessLookupError):
                        child.kill()
                    await child.wait()
            if child.returncode != 0:
                said = _text(err).strip() or f"exit code {child.returncode}"
                raise SystemctlError(f"{words}: {said}")
            return _text(out)


def _environment() -> dict[str, str]:
    """Return ours without what names our place at systemd: systemctl would tell it of itself."""
    return {name: value for name, value in os.environ.items() if name != _NOTIFY_SOCKET}


def _memory() -> BinaryIO:
    return open(os.memfd_create("systemctl"), "w+b")  # noqa: PTH123 - no path, and used with `with`


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def parse_properties(text: str) -> list[dict[str, str]]:
    """Return what `systemctl show` prints: a block of NAME=VALUE lines for each unit."""
    blocks = (block.splitlines() for block in text.split("\n\n"))
    found = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
    return [each for each in found if each]
