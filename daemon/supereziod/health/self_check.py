"""Whether the daemon answers itself: a loop that turns may still serve nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class SelfCheck:
    """Awaits `call`, which is to reach the daemon as a client would.

    Only silence means stuck, and only `stuck_after` times in a row. An error is an answer (a full
    table of connections, say): `fault` has it for the health, and it causes no restart.
    """

    def __init__(
        self,
        call: Callable[[], Awaitable[object]],
        *,
        stuck_after: int = 3,
        out_of_reach: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Take the call, and what says why nobody else can make one any more, if that is so.

        The call goes over a connection that stays open.
        """
        self._call = call
        self._out_of_reach = out_of_reach
        self._stuck_after = stuck_after
        self._silences = 0
        self.fault: str | None = None

    @property
    def stuck(self) -> bool:
        """Whether the daemon has not answered itself for too many times in a row."""
        return self._silences >= self._stuck_after

    async def look(self, *, patience_s: float) -> None:
        """Call once, and wait at most `patience_s` for the answer."""
        try:
            async with asyncio.timeout(patience_s):
                await self._call()
        except TimeoutError:
            self._silences += 1
            self.fault = f"the daemon has not answered itself, {self._silences} times in a row"
        except Exception as error:  # noqa: BLE001 - one check is an edge
            self._silences = 0
            self.fault = f"the daemon could not call itself: {error}"
        else:
            self._silences = 0
            self.fault = self._out_of_reach()
