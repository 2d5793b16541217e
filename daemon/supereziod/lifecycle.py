"""The daemon's life as its service manager sees it: ready, reload, stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from superezio.errors import SuperezioError
from supereziod.gpu.monitor import GpuMonitor


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def on_hangup(reload: Callable[[], Awaitable[object]]) -> None:
    """Reload for each SIGHUP, until cancelled; signals that come meanwhile are one.

    A refusal has been told as an event by then, and there is nobody to answer.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        while True:
            await asked.wait()
            asked.clear()
            with suppress(SuperezioError):
                await reload()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def first_snapshot(monitor: GpuMonitor, *, patience_s: float) -> bool:
    """Wait until every GPU was read or found wanting. False: not all were within the patience."""
    ready = asyncio.Event()

    def look() -> None:
        if monitor.snapshot().ready:
            ready.set()

    stop_listening = monitor.on_change(look)
    look()
    try:
        async with asyncio.timeout(patience_s):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        stop_listening()
    return True
