"""Keeps the board up to date: asks each second, at once after an event, and over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from superezio.aio import AsyncClient
from superezio.errors import DaemonNotRunningError, ReplyTimeoutError, SuperezioError
from superezio.wire import Event
from superezioctl.top.board import Board
from superezioctl.views.text import place
from superezioctl.wording import with_places, with_users

#: What has not answered by then is said to be away; old figures stay on the screen meanwhile.
_PATIENCE_S = 1.5
_PERIOD_S = 1.0
#: Events come in bursts: one look is enough for those of so short a time.
_PAUSE_S = 0.1


class Follower:
    """Follows one daemon, whichever process that is; `show` is called for every change."""

    def __init__(self, socket_path: str, *, show: Callable[[], None]) -> None:
        self.client = AsyncClient(socket_path, timeout_s=_PATIENCE_S)
        self.board = Board(trouble="asking the daemon")
        self._show = show
        self._due = asyncio.Event()

    def look_soon(self) -> None:
        """Ask again without waiting for the second to pass."""
        self._due.set()

    async def follow(self) -> None:
        """Go on until cancelled."""
        async with self.client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_again_and_again())
            tasks.create_task(self._listen())

    async def _look_again_and_again(self) -> None:
        while True:
            self._due.clear()
            try:
                self.board = await self._ask()
            except SuperezioError as error:
                self.board = replace(self.board, trouble=_trouble(error))
            self._show()
            await asyncio.sleep(_PAUSE_S)
            try:
                async with asyncio.timeout(_PERIOD_S - _PAUSE_S):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def _ask(self) -> Board:
        client = self.client
        system, health, gpus, leases, processes = await asyncio.gather(
            client.system_info(),
            client.health_get(),
            client.gpu_list(),
            client.lease_list(),
            client.gpu_processes(),
        )
        return Board(
            system=system,
            health=health,
            gpus=gpus.gpus,
            leases=leases.leases,
            processes=processes.processes,
            queue=leases.queue,
            news=self.board.news,
        )

    async def _listen(self) -> None:
        """Note the last event. That there is no daemon is told by who asks, not here."""
        while True:
            try:
                async with self.client.events(replay=1) as events:
                    async for notification in events:
                        news = _line(notification.event, self.board)
                        self.board = replace(self.board, news=news)
                        self.look_soon()
            except SuperezioError:
                await asyncio.sleep(_PERIOD_S)


def _trouble(error: SuperezioError) -> str:
    if isinstance(error, DaemonNotRunningError):
        return "no daemon, waiting for one"
    if isinstance(error, ReplyTimeoutError):
        return "the daemon does not answer, waiting"
    return error.message


def _line(event: Event, board: Board) -> str:
    at = datetime.fromisoformat(event.time).astimezone()
    places = {gpu.uuid: place(gpu.index, gpu.mig_index) for gpu in board.gpus}
    return f"{at:%H:%M:%S} {with_users(with_places(event.message, places))}"
