"""The daemon's life as its service manager sees it: ready, reload, stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from superezio.errors import SuperezioError
from supereziod import hangups
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


@contextmanager
def hangup_signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGHUP sets, also one that was held back until now (see `hangups`).

    Afterwards it is ignored: nobody reloads any more, and the process is to end in order.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    # No handler of the loop's: that is taken away before the signal is ignored, and one that came
    # between the two would be the end.
    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(asked.set))
    hangups.deliver()
    try:
        yield asked
    finally:
        hangups.ignore()


async def on_hangup(asked: asyncio.Event, reload: Callable[[], Awaitable[object]]) -> None:
    """Reload each time it is asked for, until cancelled; what is asked meanwhile is one.

    A refusal has been told as an event by then, and there is nobody to answer.
    """
    log = structlog.get_logger()
    while True:
        await asked.wait()
        asked.clear()
        try:
            await reload()
        except SuperezioError:
            continue
        except Exception:  # the edge of this background loop
            log.exception("config.reload_failed")


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
