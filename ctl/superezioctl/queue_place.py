"""The place in the queue, for somebody who waits for a lease."""

from __future__ import annotations

import json
import time

from superezio.errors import SuperezioError
from superezio.quantities import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from superezioctl.context import Context

_PATIENCE_S = 1.0


class QueuePlace:
    """Shows the place on standard error: a terminal in one line, a log once per change of place.

    It is looked up over a connection of its own, for the first one waits for the lease.
    """

    def __init__(self, context: Context, *, correlation_id: str) -> None:
        self._out = context.out
        self._caller = context.caller()
        self._caller.timeout_s = min(context.timeout_s, _PATIENCE_S)
        self._correlation_id = correlation_id
        self._started_s = time.monotonic()
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._said and self._out.interactive:
            self._out.progress("")
        self._caller.close()

    def look(self) -> None:
        """Ask for the queue and show what has changed. That it cannot be seen is no failure."""
        try:
            queue = json.loads(self._caller.call("lease.list", retry=False))["queue"]
        except SuperezioError:
            self._caller.reconnect_patiently()
            return
        mine = next((w for w in queue if w.get("correlation_id") == self._correlation_id), None)
        if mine is not None:
            place = f"waiting, place {mine['position']} of {len(queue)} in the queue"
            self.say(f"{place}: {mine['reason']}", news=place)

    def say(self, text: str, *, news: str) -> None:
        """Show `text`; to a log only when `news` is not what it was."""
        if self._out.interactive:
            waited = format_duration(time.monotonic() - self._started_s)
            self._out.progress(f"superezioctl run: {text} ({waited})"[: self._out.width - 1])
        elif news != self._said:
            if self._out.json:
                self._out.note(json.dumps({"waiting": text}, ensure_ascii=False))
            else:
                self._out.note(f"superezioctl run: {text}")
        self._said = news
