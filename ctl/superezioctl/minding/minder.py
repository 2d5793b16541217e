"""The minder of one command: it waits for notices of the lease and for the command's end."""

from __future__ import annotations

import json
import os
import select
import time

from superezio.quantities import format_duration
from superezioctl.minding.follower import Revocation
from superezioctl.output import harmless
from superezioctl.wording import with_users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezioctl.minding.family import Process
    from superezioctl.minding.follower import Follower
    from superezioctl.minding.responses import Response

_STANDARD_ERROR = 2
#: What a command has to end in whose lease is lost already.
_LATE_NS = 10_000_000_000
#: Who or what wants the lease to end, where the daemon's word for it says little.
_REASONS = {"owner": "by its user", "admin": "by an admin"}


class Minder:
    """Follows the lease of a command until one of them is no more.

    Where somebody else than the command reads standard error, that is the audience: when it has
    ended nothing more is said, and standard error is let go of, so that no reader waits for more.
    """

    def __init__(
        self,
        *,
        command: Process,
        follower: Follower,
        response: Response,
        say: Callable[[str], None],
        audience: Process | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._audience = audience
        self._command = command
        self._follower = follower
        self._response = response
        self._say = say
        self._clock = clock
        self._heard = False
        self._lost = False
        self._ended = False

    def run(self) -> None:
        """Return when nothing is left to mind."""
        while True:
            if not self._ended and self._command.ended:
                self._ended = True
                self._response.command_ended()
                self._follower.close()
            if self._audience is not None and self._audience.ended:
                self._audience = None
                fall_silent()
            if not self._ended:
                self._follower.turn()
                self._heed(self._follower.revocation)
            self._response.turn()
            if self._over:
                return
            self._wait()

    @property
    def _over(self) -> bool:
        if self._ended:
            return not self._response.busy
        # A command whose lease is lost is still ended, if that was begun.
        return self._follower.over and self._response.due_ns is None

    def _heed(self, revocation: Revocation | None) -> None:
        if self._follower.over:
            self._heed_loss()
            return
        if revocation is None:
            if self._heard:
                self._heard = False
                self._response.withdrawn()
                self._say("the lease is kept after all")
            return
        if not revocation.answered:
            self._follower.accept()
            revocation.answered = True
        if self._heard:
            self._response.changed(revocation)
            return
        self._heard = True
        left = format_duration(max(0.0, (revocation.deadline_ns - self._clock()) / 1e9))
        reason = _REASONS.get(revocation.reason, revocation.reason)
        why = ": ".join(filter(None, (reason, with_users(revocation.message))))
        self._say(f"the lease is revoked, and lost in {left} ({why})")
        self._response.heard(revocation)

    def _heed_loss(self) -> None:
        """End the command of a lease that was lost: its time is over, whatever it was told."""
        lost = self._follower.lost
        # With the command its lease ends, too: that is no loss.
        if lost is None or self._lost or self._command.ended:
            return
        self._lost = True
        self._say(lost)
        deadline_ns = self._clock() + _LATE_NS
        known = self._follower.revocation
        if self._heard and known is not None:
            deadline_ns = min(deadline_ns, known.deadline_ns)
        loss = Revocation(
            reason="lost",
            message=lost,
            deadline_ns=deadline_ns,
            answered=True,
            cause=self._follower.lost_for,
        )
        if self._heard:
            self._response.changed(loss)
        else:
            self._heard = True
            self._response.heard(loss)

    def _wait(self) -> None:
        poll = select.poll()
        for descriptor in self._response.watched:
            poll.register(descriptor, select.POLLIN)
        if self._audience is not None:
            poll.register(self._audience.pidfd, select.POLLIN)
        due = [self._response.due_ns]
        if not self._ended:
            poll.register(self._command.pidfd, select.POLLIN)
            due.append(self._follower.retry_ns)
            if self._follower.fileno() >= 0:
                poll.register(self._follower.fileno(), select.POLLIN)
        times = [time_ns for time_ns in due if time_ns is not None]
        poll.poll(max(0, min(times) - self._clock()) // 1_000_000 + 1 if times else None)


def fall_silent() -> None:
    """Let go of standard error: whoever reads it sees its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STANDARD_ERROR)
    os.close(nowhere)


def voice(*, as_json: bool) -> Callable[[str], None]:
    """Return what says a sentence on standard error, and says nothing where nobody reads."""

    def say(text: str) -> None:
        line = json.dumps({"notice": text}) if as_json else f"superezioctl run: {text}"
        poll = select.poll()
        poll.register(_STANDARD_ERROR, select.POLLOUT)
        # A pipe that is full must not keep a command from being ended in time.
        if any(event == select.POLLOUT for _, event in poll.poll(0)):
            try:
                os.write(_STANDARD_ERROR, f"{harmless(line)}\n".encode())
            except OSError:
                return

    return say
