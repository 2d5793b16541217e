"""Coroutines that are cancelled at a wait that a test chooses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Literal

#: How a cancellation finds a call: while it waits, or with what it waited for come already.
Moment = Literal["waits", "goes on"]


class CancelledAt(Awaitable[None]):
    """A coroutine that is cancelled at its n-th wait, as a task that is cancelled is."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], number: int, moment: Moment) -> None:
        self._coroutine = coroutine
        self._number = number
        self._moment = moment
        self.came_to_it = False

    def __await__(self) -> Generator[Any, None, None]:
        steps = self._coroutine.__await__()
        waits_for = self._next(steps, None)
        for number in itertools.count(1):
            if waits_for is None:
                return
            error = None
            if number == self._number:
                self.came_to_it = True
                error = asyncio.CancelledError()
            if error is not None and self._moment == "waits":
                if isinstance(waits_for, asyncio.Future):
                    waits_for.cancel()
            else:
                yield waits_for[0] if isinstance(waits_for, tuple) else waits_for
            waits_for = self._next(steps, error)

    def _next(self, steps: Generator[Any, None, None], error: BaseException | None) -> Any:
        try:
            step = steps.send(None) if error is None else steps.throw(error)
        except StopIteration:
            return None
        # A bare yield gives way to others for one turn of the loop.
        return (None,) if step is None else step
