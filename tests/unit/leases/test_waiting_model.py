"""SEMANTICS 5: a retried acquire is the same acquire, and who stops asking leaves: against a model.

Every acquire wants most of one GPU, so that one is granted at a time, in the order of asking.
"""

from __future__ import annotations

import asyncio
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lease_host import SMALL, LeaseHost, ask, caller_of, turn
from superezio.errors import (
    CancelledRequestError,
    NoCapacityError,
    SuperezioError,
    WaitTimeoutError,
)
from superezio.wire import Lease

ME = caller_of(0)
KEYS = st.sampled_from(["a", "b", None])
WHICH = st.integers(0, 7)


class Listener:
    """One request in flight: what it came over, and what has to come of it once that is known."""

    def __init__(self, connection: str, task: asyncio.Task[Lease]) -> None:
        self.connection = connection
        self.task = task
        self.lease: str | None = None
        self.error: type[SuperezioError] | None = None


class Waits:
    """An acquire in the queue, as its requests have it."""

    def __init__(self, key: str | None, ends_s: Fraction) -> None:
        self.key = key
        self.ends_s = ends_s
        self.listeners: list[Listener] = []


class Waiting(RuleBasedStateMachine):
    """Any order of requests, retries, cancellations, lost connections, releases and time."""

    @initialize()
    def boot(self) -> None:
        self.runner = asyncio.Runner()
        self.scratch = tempfile.TemporaryDirectory(prefix="waiting-")
        self.connections = 0
        self.line: list[Waits] = []
        self.held: tuple[str | None, str] | None = None
        self.done: list[Listener] = []
        self.host = self.runner.run(self.started())

    async def started(self) -> LeaseHost:
        host = LeaseHost(Path(self.scratch.name))
        await host.leases.start()
        host.leases.ready()
        host.monitor.read()
        return host

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.runner.run(self.host.leases.aclose())
            self.runner.run(self.settled())
            self.runner.close()
            self.scratch.cleanup()

    async def settled(self) -> None:
        tasks = [listener.task for waits in self.line for listener in waits.listeners]
        for task in tasks:
            task.cancel()  # the model may have failed because nothing will come of it
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what happens ---------------------------------------------------------------------------

    @rule(key=KEYS, wait_s=st.sampled_from([300, 20, 0]), again=st.booleans())
    def somebody_asks(self, key: str | None, wait_s: int, again: bool) -> None:  # noqa: FBT001 - drawn
        if not (again and self.connections):
            self.connections += 1
        listener = self.runner.run(self.asked(f"c{self.connections}", key, wait_s))
        known = next((each for each in self.line if key is not None and each.key == key), None)
        if self.held is not None and key is not None and self.held[0] == key:
            listener.lease = self.held[1]
        elif known is not None:
            known.listeners.append(listener)
            return
        elif self.held is None:
            self.held = key, lease_of(listener)
            listener.lease = self.held[1]
        elif wait_s:
            waits = Waits(key, self.now_s + wait_s)
            waits.listeners.append(listener)
            self.line.append(waits)
            return
        else:
            listener.error = NoCapacityError
        self.done.append(listener)

    @precondition(lambda self: any(waits.key for waits in self.line))
    @rule(which=WHICH)
    def a_request_is_made_again(self, which: int) -> None:
        keyed = [waits for waits in self.line if waits.key]
        self.somebody_asks(keyed[which % len(keyed)].key, 300, again=False)

    async def asked(self, connection: str, key: str | None, wait_s: int) -> Listener:
        caller = caller_of(0, connection=connection)
        params = ask(8, mode="ttl", ttl_ms=86_000_000, avoid=[SMALL], wait_ms=wait_s * 1000)

        async def request() -> Lease:
            answer = self.host.leases.acquire(caller, params, idempotency_key=key)
            return answer if isinstance(answer, Lease) else await answer

        listener = Listener(connection, asyncio.ensure_future(request()))
        await turn()
        return listener

    @precondition(lambda self: self.line)
    @rule(which=WHICH, who=WHICH)
    def a_request_is_cancelled(self, which: int, who: int) -> None:
        waits = self.line[which % len(self.line)]
        listener = waits.listeners.pop(who % len(waits.listeners))
        listener.task.cancel()
        self.runner.run(turn())
        assert listener.task.cancelled()
        if not waits.listeners:
            self.line.remove(waits)

    @precondition(lambda self: self.line)
    @rule(which=WHICH, who=WHICH)
    def a_connection_closes(self, which: int, who: int) -> None:
        waits = self.line[which % len(self.line)]
        connection = waits.listeners[who % len(waits.listeners)].connection
        self.runner.run(self.closed(connection))
        for each in list(self.line):
            gone = [one for one in each.listeners if one.connection == connection]
            each.listeners = [one for one in each.listeners if one.connection != connection]
            for listener in gone:
                listener.error = CancelledRequestError
            self.done += gone
            if not each.listeners:
                self.line.remove(each)
        self.connections += 1  # nothing comes over a connection that is closed

    async def closed(self, connection: str) -> None:
        self.host.leases.connection_closed(connection)
        await turn()

    @precondition(lambda self: self.line)
    @rule(which=WHICH)
    def a_wait_is_taken_out(self, which: int) -> None:
        place = which % len(self.line)
        self.runner.run(self.taken_out(place))
        self.ends(self.line[place], CancelledRequestError)

    async def taken_out(self, place: int) -> None:
        waiter = self.host.leases.list(ME).queue[place].id
        assert self.host.leases.cancel(ME, waiter).done
        assert not self.host.leases.cancel(ME, waiter).done
        await turn()

    @precondition(lambda self: self.held is not None)
    @rule()
    def the_lease_is_released(self) -> None:
        assert self.held is not None
        self.runner.run(self.released(self.held[1]))
        self.held = None
        if self.line:
            first = self.line.pop(0)
            ids = {lease_of(listener) for listener in first.listeners}
            assert len(ids) == 1, "all who asked for one lease have that one"
            self.held = first.key, ids.pop()
            for listener in first.listeners:
                listener.lease = self.held[1]
            self.done += first.listeners

    async def released(self, lease: str) -> None:
        self.host.leases.release(ME, lease)
        self.host.monitor.read()
        await turn()

    @rule(seconds=st.sampled_from([1, 19, 21, 150]))
    def time_passes(self, seconds: int) -> None:
        self.host.clock.advance(seconds)
        self.runner.run(self.read())
        for waits in [each for each in self.line if each.ends_s <= self.now_s]:
            self.ends(waits, WaitTimeoutError)

    async def read(self) -> None:
        self.host.monitor.read()
        await turn()

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def the_queue_and_the_lease_are_those_of_the_model(self) -> None:
        shown = self.host.leases.list(ME)
        assert [lease.id for lease in shown.leases] == ([self.held[1]] if self.held else [])
        assert len(shown.queue) == len(self.line)
        for waiter, waits in zip(shown.queue, self.line, strict=True):
            left_s = float(waits.ends_s - self.now_s)
            assert abs(waiter.remaining_s - left_s) < 0.1
        for waits in self.line:
            assert not any(listener.task.done() for listener in waits.listeners)

    @invariant()
    def every_request_was_answered_as_the_model_has_it(self) -> None:
        for listener in self.done:
            if listener.error is None:
                assert listener.task.result().id == listener.lease
            else:
                assert isinstance(listener.task.exception(), listener.error)
        self.done.clear()

    # --- the parts of it ------------------------------------------------------------------------

    @property
    def now_s(self) -> Fraction:
        now_ns: Any = self.host.clock()
        return Fraction(now_ns, 10**9)

    def ends(self, waits: Waits, error: type[SuperezioError]) -> None:
        self.line.remove(waits)
        for listener in waits.listeners:
            listener.error = error
        self.done += waits.listeners


def lease_of(listener: Listener) -> str:
    assert listener.task.done(), "it has its answer by now"
    return listener.task.result().id


def test_waits_are_as_semantics_has_it() -> None:
    run_state_machine_as_test(
        Waiting,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, database=None),
    )
