"""One record in the journal of each administrative act: who, by which process, what, how it ended.

What is audited is said by the table of methods (`Method.audit`): what admins alone may call,
always, unless it only reads; what anyone may do to things of their own, where it is about another
user's, or shared. What was refused for want of rights is recorded as well, reads of what is for
admins too, and so is an act of theirs that was turned away before anybody looked at it: it came too
fast, or cannot be read. Whom the other methods would have been about is not known then, nor was
anything of theirs touched.

What has changed something is never kept from the record by what has not: each has a rate of its
own. An admin's acts have none; what is turned away has, whoever sends it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import structlog
from msgspec import UNSET
from msgspec.structs import replace

from superezio.errors import PermissionDeniedError, SuperezioError
from superezio.wire import Params
from supereziod.observability.log_fields import in_one_line
from supereziod.observability.targets import Target
from supereziod.resilience.event_rate import EventRate
from supereziod.rpc.actors import Actor, Actors
from supereziod.rpc.method import Audit
from supereziod.rpc.requests import Act, RequestContext
from supereziod.rpc.route import Route

R = TypeVar("R")

#: Types of lines, as the journal has them by their MESSAGE_ID, and what each says.
RECORDS: Final[dict[str, str]] = {
    "audit.done": "An administrative act was done, or found nothing to do.",
    "audit.refused": "An administrative act was refused: the caller may not do it.",
    "audit.failed": "An administrative act failed.",
    "audit.turned_away": (
        "An administrative call was not looked at: it came too fast, or cannot be read."
    ),
}
#: Records of a kind that one user may bring about, where that is bounded. More are counted, and
#: told with the next.
_PER_SECOND: Final = 1
_BURST: Final = 20
_MAX_PARAMETERS: Final = 512
#: An error may repeat what the caller sent, whole.
_MAX_ERROR: Final = 2048


class AuditTrail:
    """Writes the records. `write(event, **fields)` takes them at every level of the log."""

    def __init__(
        self,
        write: Callable[..., Any] | None = None,
        *,
        actors: Actors | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._write = write if write is not None else structlog.get_logger().info
        self._actors = actors or Actors()
        self._acts = EventRate(clock=clock, per_second=_PER_SECOND, burst=_BURST)
        self._attempts = EventRate(clock=clock, per_second=_PER_SECOND, burst=_BURST)

    def begin(self, request: RequestContext, route: Route, params: Params) -> None:
        """Have a request leave a record when it ends, if it is an act, or is refused as one."""
        request.act = Act(params=params, audit=_audit_of(route, params), actor=None)

    def waits(self, request: RequestContext, act: Act) -> None:
        """Look up who is behind one that waits: nobody may be there when it ends."""
        request.act = replace(act, actor=self._actor(request))

    def turned_away(
        self, request: RequestContext, route: Route, params: Params | None, error: SuperezioError
    ) -> None:
        """Record a call that nobody looked at; `params` None: they cannot be read."""
        if _audit_of(route, params) != "always":
            return
        besides = self._attempts.take(request.uid)
        if besides is not None:
            act = Act(params=params, audit="always", actor=None)
            self._record(request, act, "audit.turned_away", "turned_away", error, besides)

    def done(self, request: RequestContext, act: Act, result: object) -> None:
        """Record that a request was done."""
        if self._is_administrative(request, act):
            outcome = "done" if _has_changed_something(result) else "unchanged"
            self._ended(request, act, "audit.done", outcome)

    def failed(self, request: RequestContext, act: Act, error: SuperezioError) -> None:
        """Record that a request was refused, or failed otherwise."""
        if isinstance(error, PermissionDeniedError):
            self._ended(request, act, "audit.refused", "refused", error)
        elif self._is_administrative(request, act):
            self._ended(request, act, "audit.failed", "failed", error)

    async def by_signal(self, signal: str, action: str, work: Callable[[], Awaitable[R]]) -> R:
        """Do what a signal asks for, and record it. Nobody can tell who sent a signal."""
        try:
            result = await work()
        except Exception as error:
            self._signalled(signal, action, "audit.failed", "failed", error)
            raise
        self._signalled(signal, action, "audit.done", "done")
        return result

    def _is_administrative(self, request: RequestContext, act: Act) -> bool:
        if act.audit != "others":
            return act.audit == "always"
        target = _target_of(request)
        return target is not None and target.owner != request.uid

    def _ended(
        self,
        request: RequestContext,
        act: Act,
        event: str,
        outcome: str,
        error: SuperezioError | None = None,
    ) -> None:
        rate = self._acts if outcome == "done" else self._attempts
        # What admins do is never left out.
        besides = {} if request.role == "admin" else rate.take(request.uid)
        if besides is not None:
            self._record(request, act, event, outcome, error, besides)

    def _record(
        self,
        request: RequestContext,
        act: Act,
        event: str,
        outcome: str,
        error: SuperezioError | None,
        besides: Mapping[str, Any],
    ) -> None:
        actor = act.actor or self._actor(request)
        parameters = None if act.params is None else _in_short(act.params)
        asked = f"{request.method}"
        if parameters not in {None, "{}"}:
            asked = f"{asked} {parameters}"
        target = _target_of(request)
        about = f" ({target.what} of {_owner(target)})" if target is not None else ""
        self._write(
            event,
            message=in_one_line(f"{actor}: {asked}{about}: {_how(outcome, error)}"),
            audit=1,
            action=request.method,
            outcome=outcome,
            error_kind=error.kind if error is not None else None,
            parameters=parameters,
            target=target.what if target is not None else None,
            target_uid=target.owner if target is not None else None,
            role=request.role,
            **_of_actor(actor),
            **_of_request(request),
            **besides,
        )

    def _signalled(
        self, signal: str, action: str, event: str, outcome: str, error: Exception | None = None
    ) -> None:
        self._write(
            event,
            message=in_one_line(f"by the signal {signal}: {action}: {_how(outcome, error)}"),
            audit=1,
            action=action,
            outcome=outcome,
            error_kind=error.kind if isinstance(error, SuperezioError) else None,
            signal=signal,
        )

    def _actor(self, request: RequestContext) -> Actor:
        return self._actors.describe(request.peer, request.origin.pidfd())


def _audit_of(route: Route, params: Params | None) -> Audit:
    reads = params is not None and route.only_reads is not None and route.only_reads(params)
    return "refusals" if reads else route.audit


def _target_of(request: RequestContext) -> Target | None:
    return request.timeline.target if request.timeline is not None else None


def _owner(target: Target) -> str:
    return "all" if target.owner is None else f"uid {target.owner}"


def _has_changed_something(result: object) -> bool:
    """Whether an answer says that there was something to do. Most methods answer no such thing."""
    return getattr(result, "done", True) is not False and (
        getattr(result, "released", True) is not False
    )


def _how(outcome: str, error: Exception | None) -> str:
    """Return how it ended in words, cut where they are long."""
    words = outcome.replace("_", " ")
    return words if error is None else f"{words}: {_cut(str(error), _MAX_ERROR)}"


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]}..."


def _in_short(params: Params) -> str:
    """Return params as JSON, cut where they are long; what was not given is left out."""
    given = {
        name: value
        for name in params.__struct_fields__
        if (value := getattr(params, name)) is not None and value is not UNSET
    }
    return _cut(msgspec.json.encode(given).decode(), _MAX_PARAMETERS)


def _of_actor(actor: Actor) -> Mapping[str, Any]:
    return {
        "actor_user": actor.user,
        "actor_comm": actor.comm,
        "actor_unit": actor.unit,
        "actor_inner_unit": actor.inner_unit,
        "actor_login_uid": actor.login_uid,
        "actor_login_user": actor.login_user,
    }


def _of_request(request: RequestContext) -> Mapping[str, Any]:
    """Return what stands on the lines of a request, which may not be the current scope any more."""
    timeline = request.timeline
    gpus = timeline.gpus if timeline is not None else ()
    return {
        "correlation_id": request.correlation_id,
        "session_id": request.session_id,
        "uid": request.uid,
        "pid": request.pid,
        "method": request.method,
        "gpu": gpus[0] if len(gpus) == 1 else None,
        "lease": timeline.lease if timeline is not None else None,
    }
