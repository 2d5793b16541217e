"""The place in the queue, for somebody who waits for a lease."""

from __future__ import annotations

import json
import time

from superezio.errors import SuperezioError
from superezio.quantities import format_duration
from superezioctl.columns import shortened
from superezioctl.wording import with_users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from superezioctl.context import Context

#: The events that say where an acquire stands.
PLACES = ("lease.queued", "lease.position")

#: Codes of a place of which there is nothing to say before the GPUs have been read.
_NOT_KNOWN = ("", "settling")

_PATIENCE_S = 1.0
#: What is lost on the way, by rounding and between two clocks, is no shorter wait.
_SLACK_MS = 2_000


class QueuePlace:
    """Shows the place on standard error: a terminal in one line, a log once per change of place.

    The daemon tells of it as events on the connection that waits: `take` is for what comes there.
    Until it has, and where it does not, `look` asks over a connection of its own: an older daemon
    tells where an acquire begins to wait and not where it stands later, and a busy one may have no
    room for a subscription.
    """

    def __init__(
        self, context: Context, *, command: str, correlation_id: str, asked_ms: int
    ) -> None:
        self._command = command
        #: How long it is to wait, until the daemon was heard on that.
        self._asked_ms: int | None = asked_ms
        self._out = context.out
        self._caller = context.caller()
        self._caller.timeout_s = min(context.timeout_s, _PATIENCE_S)
        self._correlation_id = correlation_id
        self._started_s = time.monotonic()
        self._told = False
        self._text = ""
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

    def take(self, line: bytes) -> None:
        """Show the place that a line of the daemon tells of; any other line is none of ours."""
        if b'"method":"event"' not in line:
            return
        event: dict[str, Any] = json.loads(line)["params"]["event"]
        data = event["data"]
        if event["correlation_id"] == self._correlation_id and "code" in data:
            self._heed(data.get("wait_ms"))
            if data["code"] not in _NOT_KNOWN:
                self._told = True
                self._show(data["position"], data["queue_length"], data["reason"])

    def look(self) -> None:
        """Show how long it has been, and ask for the place if nothing tells of it."""
        if not self._told:
            self._ask()
        elif self._out.interactive:
            self.say(self._text, news=self._said)

    def forget(self) -> None:
        """Take it that nothing tells of the place any more: the daemon is gone."""
        self._told = False

    def say(self, text: str, *, news: str) -> None:
        """Show `text`; to a log only when `news` is not what it was."""
        if self._out.interactive:
            waited = format_duration(time.monotonic() - self._started_s)
            told = f"{self._command}: {text} ({waited})".replace("\n", " ")
            self._out.progress(shortened(told, self._out.width - 1))
        elif news != self._said:
            self._note({"waiting": text}, text)
        self._text, self._said = text, news

    def _ask(self) -> None:
        """Ask for the queue and show what has changed. That it cannot be seen is no failure."""
        try:
            queue = json.loads(self._caller.call("lease.list", retry=False))["queue"]
        except SuperezioError:
            self._caller.reconnect_patiently()
            return
        mine = next((w for w in queue if w.get("correlation_id") == self._correlation_id), None)
        if mine is not None:
            self._heed(round((mine["waited_s"] + mine["remaining_s"]) * 1000))
            self._show(mine["position"], len(queue), mine["reason"])

    def _heed(self, allowed_ms: int | None) -> None:
        """Say once that the daemon does not let anybody wait as long as it was asked to."""
        asked_ms, self._asked_ms = self._asked_ms, None
        if allowed_ms is None or asked_ms is None or allowed_ms + _SLACK_MS >= asked_ms:
            return
        allowed, asked = format_duration(allowed_ms / 1000), format_duration(asked_ms / 1000)
        if self._said and self._out.interactive:
            self._out.progress("")
        self._note(
            {"wait_ms": allowed_ms},
            f"it waits {allowed} at most, and not {asked}: that is the daemon's maximum "
            "(leases.wait_maximum)",
        )

    def _note(self, document: dict[str, object], text: str) -> None:
        if self._out.json:
            self._out.note(json.dumps(document, ensure_ascii=False))
        else:
            self._out.note(f"{self._command}: {text}")

    def _show(self, position: int, queue_length: int, reason: str) -> None:
        place = f"waiting, place {position} of {queue_length} in the queue"
        self.say(f"{place}: {with_users(reason)}", news=place)
