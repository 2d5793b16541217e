"""Programs that share the GPUs: well-behaved ones, greedy ones, forgetful ones and strangers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from msgspec import structs

from soak.cards import GIB, MIB
from soak.daemon_run import DaemonRun, Line, LostError
from soak.host import Host
from soak.judge import Judge
from soak.processes import Process
from soak.truth import Asked, room_of
from soak.users import UIDS
from superezio.errors import (
    NoCapacityError,
    PermissionDeniedError,
    QuotaExceededError,
    ShuttingDownError,
    StaleLeaseError,
    SuperezioError,
)
from superezio.wire import (
    AcquireParams,
    Lease,
    LeaseAcknowledgeParams,
    LeaseAttachParams,
    LeaseRenewParams,
    Policy,
)
from supereziod.leases.handles import Caller
from supereziod.leases.manager import LeaseManager

_SIZES_GIB: Final = (0.5, 1, 2, 3, 4, 6, 8, 10, 16, 22, 40)
_SIZE_WEIGHTS: Final = (2, 4, 6, 5, 5, 4, 4, 2, 1, 1, 0.2)
_TRIES: Final = 8


class Running(Protocol):
    """The daemon as programs find it: it may be down."""

    host: Host
    judge: Judge

    async def up(self) -> DaemonRun:
        """Wait for a daemon that runs, and return it."""


class Program:
    """One program, from its start to its end. All it does is decided by its number and the seed."""

    def __init__(self, daemon: Running, *, seed: int, number: int) -> None:
        self._daemon = daemon
        self._host = daemon.host
        self._judge = daemon.judge
        self._random = random.Random(f"program {seed} {number}")
        self._number = number
        self._asks = 0
        self._uid = self._random.choice(UIDS)
        self._processes: list[Process] = []
        self._line: Line | None = None
        #: A process that ran before anything was leased for it.
        self._server: Process | None = None
        self._answers: set[asyncio.Future[None]] = set()
        self._greed = self._random.choice((0.0, 0.6, 0.8, 0.95, 0.95, 1.0, 1.05, 1.4))
        self._keeps_up = self._random.random() < 0.85
        self._with_pidfd = self._random.random() < 0.8
        self._visible = self._random.random() < 0.9

    async def run(self) -> None:
        """Live, and end with nothing left but what it was to leave behind."""
        main = self._spawn()
        try:
            await self._use_gpus(main)
        except LostError:
            pass
        finally:
            for answer in tuple(self._answers):
                answer.cancel()
            await asyncio.gather(*self._answers, return_exceptions=True)
            for process in self._processes:
                self._host.end(process, f"program {self._number} is over")
            if self._line is not None:
                self._line.close()

    # --- its life -------------------------------------------------------------------------------

    async def _use_gpus(self, main: Process) -> None:
        lease = await self._acquire(main)
        if lease is None:
            return
        leases = [lease]
        renewing = asyncio.create_task(self._keep_renewing(lease)) if lease.ttl_ms else None
        try:
            pause_s = self._random.choice((2.0, 20.0, 120.0, 600.0))
            for _ in range(self._random.randint(1, 10)):
                await asyncio.sleep(self._random.expovariate(1 / pause_s))
                if main.ended:
                    return
                deed = self._random.choices(*_DEEDS)[0]
                await deed(self, main, leases)
                main = self._processes[0]
        finally:
            if renewing is not None:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
        if self._random.random() < 0.3:
            return
        if self._random.random() < 0.5:
            for process in self._processes[1:]:
                self._host.end(process, "tidy up before the release")
        for each in leases:
            await self._release(each)
        await asyncio.sleep(self._random.choice((0.0, 0.5, 8.0)))

    async def _load(self, main: Process, leases: list[Lease]) -> None:
        lease = self._random.choice(leases)
        alive = [each for each in self._processes if not each.ended]
        part = self._greed * self._random.choice((0.3, 0.7, 1.0, 1.0)) / max(1, len(alive))
        for process in alive or [main]:
            for gpu in lease.gpus:
                size = round(gpu.reserved_bytes * part)
                self._host.allocate(process, self._host.units[gpu.uuid], size)

    async def _stray(self, main: Process, leases: list[Lease]) -> None:
        """Use a GPU that no lease of it is on."""
        del leases
        uuid = self._random.choice(list(self._host.gpus))
        self._host.allocate(main, self._host.gpus[uuid], self._random.randint(1, 512) * MIB)

    async def _fork(self, main: Process, leases: list[Lease]) -> None:
        child = self._spawn(
            self._random.choice([each for each in self._processes if not each.ended])
        )
        await self._load(main, leases)
        if self._random.random() < 0.5:
            await self._orphan(child)

    async def _orphan(self, child: Process) -> None:
        """Let the process between the child's and the holder end, once the daemon can know."""
        grandchild = self._spawn(child)
        uuid = self._random.choice(list(self._host.gpus))
        self._host.allocate(grandchild, self._host.gpus[uuid], 256 * MIB)
        for _ in range(20):
            await asyncio.sleep(3)
            if grandchild.ended or child.ended:
                return
            if grandchild.known_of is not None:
                self._host.end(child, "it leaves its child behind")
                self._host.counts["orphans"] += 1
                return

    async def _attach(self, main: Process, leases: list[Lease]) -> None:
        lease = self._random.choice(leases)
        process = self._spawn()
        if self._random.random() < 0.5:
            await self._load(main, leases)
        start_time = process.identity.start_time if self._random.random() < 0.5 else None
        params = LeaseAttachParams(lease=lease.id, pid=process.pid, start_time=start_time)

        def attach(daemon: LeaseManager, line: Line) -> Lease:
            done = daemon.attach(self._caller(line), params)
            self._judge.attached(lease.id, process)
            return done

        await self._try(main, lease, attach)

    async def _more(self, main: Process, leases: list[Lease]) -> None:
        """Take a second lease with the same process: both have one holder."""
        if len(leases) < 3 and (lease := await self._acquire(main)) is not None:
            leases.append(lease)

    async def _say_ready(self, main: Process, leases: list[Lease]) -> None:
        lease = self._random.choice(leases)

        def ready(daemon: LeaseManager, line: Line) -> Lease:
            held = self._judge.held.get(lease.id)
            was_ready = held is not None and held.ready
            if held is not None:
                held.ready = True  # whoever waits for it is served before the answer
            try:
                return daemon.mark_ready(self._caller(line), lease.id)
            except SuperezioError:
                if held is not None:
                    held.ready = was_ready
                raise

        await self._try(main, lease, ready)

    async def _blink(self, main: Process, leases: list[Lease]) -> None:
        """Lose the connection, and come back in time, or too late."""
        if self._line is not None:
            self._line.close()
        await asyncio.sleep(self._random.choice((0.0, 1.0, 4.0, 7.0)))
        for lease in leases:
            if lease.mode == "connection" and not main.ended:
                await self._resume(main, lease)

    async def _hand_over(self, main: Process, leases: list[Lease]) -> None:
        """Lose the connection, and let another process take the leases over, as the main one."""
        if self._line is not None:
            self._line.close()
        heir = self._spawn()
        if self._random.random() < 0.3:
            self._host.allocate(heir, self._host.units[leases[0].gpus[0].uuid], 300 * MIB)
        await asyncio.sleep(self._random.choice((0.0, 0.5, 3.0)))
        if self._random.random() < 0.5:
            self._host.end(main, "it hands over")
        run = await self._daemon.up()
        if heir.ended:
            return
        self._processes.remove(heir)
        self._processes.insert(0, heir)
        if self._line is not None:
            self._line.close()  # one that was opened meanwhile, to renew
        self._line = run.connect(heir)
        for lease in leases:
            if lease.mode == "connection":
                await self._try_from_elsewhere(lease)
                await self._resume(heir, lease)

    async def _try_from_elsewhere(self, lease: Lease) -> None:
        """Have another user's process try to resume the lease."""
        uid = self._random.choice([uid for uid in UIDS if uid != self._uid])
        run = await self._daemon.up()
        stranger = self._host.spawn(uid)
        line = run.connect(stranger)
        with suppress(StaleLeaseError):
            try:
                line.run.leases.resume(line.caller(), lease.id)
            except PermissionDeniedError:
                self._judge.counts["kept from others"] += 1
            else:
                raise AssertionError(f"{lease.id} was resumed by another user")
        self._host.end(stranger, "it has tried")

    async def _end_one(self, main: Process, leases: list[Lease]) -> None:
        del main, leases
        self._host.end(self._random.choice(self._processes), "it ends by itself")

    async def _idle(self, main: Process, leases: list[Lease]) -> None:
        pass

    # --- what it asks ---------------------------------------------------------------------------

    async def _acquire(self, main: Process) -> Lease | None:
        params = self._params()
        holder = main if self._visible else None
        has_server = self._server is not None and not self._server.ended
        if params.mode != "connection" and self._random.random() < (0.7 if has_server else 0.15):
            holder = await self._find_server()
            params = structs.replace(params, holder_pid=holder.pid)
        key = f"key-{self._number}-{self._asks}" if self._random.random() < 0.7 else None
        self._asks += 1
        asked: Asked | None = None
        for _ in range(_TRIES):
            line = await self._connect(main)
            if asked is None or key is None:
                name = f"p{self._number}-{self._asks}"
                self._asks += 1
                named = structs.replace(params, name=name)
                priority = min(params.priority, 3)
                asked = Asked(
                    name=name,
                    params=named,
                    priority=priority,
                    key=key,
                    line=line,
                    holder=holder,
                )
                self._judge.asks(asked)
            asked.line = line
            try:
                lease = await self._ask(asked, line)
            except LostError:
                self._host.counts["answers lost"] += 1
            except ShuttingDownError:
                await asyncio.sleep(0.5)
            except TimeoutError:
                asked.gave_up = True
                self._host.counts["gave up"] += 1
                return None
            except SuperezioError as error:
                self._judge.refused(asked, error)
                return None
            else:
                asked.on_ordered = partial(self._hear, lease)
                return lease
        return None

    async def _find_server(self) -> Process:
        """Return a process to lease for: one that uses a GPU already, as often as not."""
        if self._server is None or self._server.ended:
            self._server = self._spawn()
            if self._random.random() < 0.7:
                uuid = self._random.choice(list(self._host.gpus))
                size = self._random.randint(200, 4000) * MIB
                self._host.allocate(self._server, self._host.gpus[uuid], size)
                await asyncio.sleep(self._random.choice((0.0, 2.0, 40.0)))
        return self._server

    async def _ask(self, asked: Asked, line: Line) -> Lease:
        patience_s = None if self._random.random() < 0.9 else self._random.expovariate(1 / 10)
        twice = asked.key is not None and self._random.random() < 0.1
        asked.in_flight += 1
        try:
            async with asyncio.timeout(patience_s):
                if not twice:
                    return await self._send(asked, line)
                both = [asyncio.ensure_future(self._send(asked, line)) for _ in range(2)]
                try:
                    one, other = await asyncio.gather(*both)
                finally:
                    for each in both:
                        each.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
                assert one.id == other.id, "one key, two leases"
                return one
        finally:
            asked.in_flight -= 1
            self._judge.touch()

    async def _send(self, asked: Asked, line: Line) -> Lease:
        caller = self._caller(line)

        def acquire(daemon: LeaseManager) -> Lease | Awaitable[Lease]:
            try:
                answer = daemon.acquire(caller, asked.params, idempotency_key=asked.key)
            except QuotaExceededError as error:
                self._judge.refused_by_quota(asked, error)
                raise
            except NoCapacityError as error:
                self._judge.refused_for_room(asked, error)
                raise
            return answer if isinstance(answer, Lease) else self._judged(asked, answer)

        lease = await line.ask(acquire, lambda answer: self._judge.told(asked, answer))
        self._host.note(f"{asked.name} has {lease.id} on {[gpu.uuid for gpu in lease.gpus]}")
        return lease

    async def _judged(self, asked: Asked, answer: Awaitable[Lease]) -> Lease:
        try:
            return await answer
        except NoCapacityError as error:
            self._judge.refused_for_room(asked, error)
            raise

    async def _resume(self, main: Process, lease: Lease) -> None:
        def resume(daemon: LeaseManager, line: Line) -> Lease:
            done = daemon.resume(self._caller(line), lease.id)
            self._judge.resumed(lease.id, line, visible=self._visible)
            return done

        await self._try(main, lease, resume)

    async def _release(self, lease: Lease) -> None:
        main = self._processes[0]
        for _ in range(1 if self._random.random() < 0.8 else 2):

            def release(daemon: LeaseManager, line: Line) -> object:
                self._judge.releasing.add(lease.id)
                try:
                    return daemon.release(self._caller(line), lease.id)
                finally:
                    if lease.id in self._judge.held:
                        self._judge.releasing.discard(lease.id)

            await self._try(main, lease, release)

    async def _keep_renewing(self, lease: Lease) -> None:
        assert lease.ttl_ms is not None

        def renew(daemon: LeaseManager, line: Line) -> Lease:
            done = daemon.renew(self._caller(line), LeaseRenewParams(lease=lease.id))
            assert lease.ttl_ms is not None
            self._judge.renewed(lease.id, lease.ttl_ms)
            return done

        while self._keeps_up or self._random.random() < 0.7:
            await asyncio.sleep(lease.ttl_ms / 3000)
            await self._try(self._processes[0], lease, renew)

    async def _try(
        self, main: Process, lease: Lease, ask: Callable[[LeaseManager, Line], object]
    ) -> None:
        """Ask for a change of a lease; that it is gone is no surprise where it may be."""
        if main.ended:
            return
        line = await self._connect(main)
        try:
            ask(line.run.leases, line)
        except StaleLeaseError:
            assert lease.id not in self._judge.held, f"{lease.id} is held, and called stale"
        except SuperezioError as error:
            self._judge.counts[f"refused {error.kind}"] += 1
        self._judge.touch()

    def _hear(self, lease: Lease) -> None:
        """Hear that a lease is to end, if it listens at all, and do so, or not."""
        if self._line is not None and self._line.open and not self._processes[0].ended:
            answer = asyncio.ensure_future(self._answer(lease))
            self._answers.add(answer)
            answer.add_done_callback(self._answers.discard)

    async def _answer(self, lease: Lease) -> None:
        main = self._processes[0]
        accept = self._random.choice((True, True, False, None))
        if accept is None:
            return

        def acknowledge(daemon: LeaseManager, line: Line) -> Lease:
            params = LeaseAcknowledgeParams(lease=lease.id, accept=accept)
            return daemon.acknowledge(self._caller(line), params)

        with suppress(LostError):
            await self._try(main, lease, acknowledge)
            await asyncio.sleep(self._random.uniform(0, 20))
            if accept:
                await self._release(lease)

    # --- what it is made of ---------------------------------------------------------------------

    def _params(self) -> AcquireParams:
        draw = self._random
        mode = draw.choices(("process", "connection", "ttl"), (5, 3, 3))[0]
        size = draw.choices(_SIZES_GIB, _SIZE_WEIGHTS)[0]
        policies: tuple[Policy, ...] = ("best_fit", "spread", "exclusive", "coolest")
        uuids = list(self._host.gpus)
        split = draw.random() < 0.15
        if split:
            size = draw.choice((size, 14, 20, 28, 36))
        policy = draw.choices(policies, (6, 3, 0.7, 0.5))[0]
        vram_bytes = round(size * GIB)
        if policy == "exclusive" and draw.random() < 0.5:
            vram_bytes = room_of(draw.choice(list(self._host.gpus.values())))
        return AcquireParams(
            vram_bytes=vram_bytes,
            split=split,
            count=draw.choices((1, 2, 3), (12, 2, 0.5))[0],
            policy=policy,
            prefer=draw.sample(uuids, 1) if draw.random() < 0.2 else [],
            avoid=draw.sample(uuids, 1) if draw.random() < 0.2 else [],
            mode=mode,  # type: ignore[arg-type]
            wait_ms=draw.choice((0, 0, 2_000, 30_000, 120_000, 600_000)),
            priority=draw.choice((0, 0, 0, 1, 2, 9)),
            ttl_ms=draw.choice((5_000, 60_000, 600_000)) if mode == "ttl" else None,
            sizes_itself=draw.random() < 0.1,
            model=draw.choice(("llama", "whisper")) if draw.random() < 0.3 else None,
            min_compute_capability=(
                draw.choice(("7.5", "8", "8.6", "9.0")) if draw.random() < 0.08 else None
            ),
            compute_mode=(
                draw.choice(("default", "default", "exclusive_process"))
                if draw.random() < 0.08
                else None
            ),
            no_display=draw.random() < 0.06,
        )

    def _caller(self, line: Line) -> Caller:
        return line.caller(with_pidfd=self._with_pidfd, visible=self._visible)

    def _spawn(self, parent: Process | None = None) -> Process:
        process = self._host.spawn(self._uid, parent)
        self._processes.append(process)
        return process

    async def _connect(self, main: Process) -> Line:
        run = await self._daemon.up()
        if main.ended:
            raise LostError
        if self._line is None or not self._line.open or self._line.run is not run:
            self._line = run.connect(main)
        return self._line


class Stranger:
    """A program that asks nobody, and uses what it finds."""

    def __init__(self, host: Host, *, seed: int, number: int) -> None:
        self._host = host
        self._random = random.Random(f"stranger {seed} {number}")

    async def run(self) -> None:
        """Use a GPU for a while."""
        process = self._host.spawn(self._random.choice((0, 1000, 33)))
        gpu = self._host.gpus[self._random.choice(list(self._host.gpus))]
        try:
            for _ in range(self._random.randint(1, 4)):
                self._host.allocate(process, gpu, self._random.randint(50, 6000) * MIB)
                await asyncio.sleep(self._random.expovariate(1 / 120))
        finally:
            self._host.end(process, "a stranger is over")


Deed = Callable[[Program, Process, list[Lease]], Awaitable[None]]
_DEEDS: Final[tuple[list[Deed], list[float]]] = (
    [
        Program._load, Program._stray, Program._fork, Program._attach, Program._more,
        Program._say_ready, Program._blink, Program._hand_over, Program._end_one, Program._idle,
    ],
    [8, 0.5, 2, 1, 1, 1.5, 1, 0.7, 0.5, 1],
)  # fmt: skip
