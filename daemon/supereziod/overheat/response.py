"""What is done where heat made the daemon fail: stop the models, wait, start all again in order.

Every step is told in the journal before the next begins, and what is stopped is on disk before it
is stopped. Nothing here decides whether to begin: that is `decision`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any, Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from supereziod.health.notifier import Notifier
from supereziod.overheat.decision import SERVICE, Heat
from supereziod.overheat.holders import LeaseHolder
from supereziod.overheat.model_start import start_model
from supereziod.overheat.record import Stopped, StoppedRecord, StoppedUnit
from supereziod.overheat.systemctl import (
    ACTIVE_SINCE,
    StillRunningError,
    Systemctl,
    SystemctlError,
)
from supereziod.overheat.thermometer import Thermometer

SLICE: Final = "superezio-models.slice"
_SOCKET: Final = "superezio.socket"
_SECOND: Final = 1_000_000_000
#: What runs may have started something while it was told to stop.
_LOOKS: Final = 3


class Patience(Struct, frozen=True, kw_only=True):
    """How long what may take, in seconds.

    `cool_s`: until the GPUs are cool, the first time; `retry_s`: between two later looks;
    `look_s`: until a reading says what there is to say; `model_look_s`: between two looks at a
    model that starts.
    """

    cool_s: float
    retry_s: float
    look_s: float
    tick_s: float
    stop_s: float = 180.0
    socket_s: float = 20.0
    service_s: float = 90.0
    model_s: float = 120.0
    model_look_s: float = 1.0


class Response:
    """One answer to one overheating. `thermometer` opens a probe; its argument were CRITICAL."""

    def __init__(
        self,
        *,
        systemctl: Systemctl,
        record: StoppedRecord,
        thermometer: Callable[[Collection[str]], Thermometer],
        holders: Callable[[], Iterable[LeaseHolder]],
        notifier: Notifier,
        patience: Patience,
        boot_id: str,
        clock: Callable[[], int] = time.monotonic_ns,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        self._systemctl = systemctl
        self._record = record
        self._thermometer = thermometer
        self._holders = holders
        self._notifier = notifier
        self._patience = patience
        self._boot_id = boot_id
        self._clock = clock
        self._log = logger if logger is not None else structlog.get_logger()

    async def read(self) -> tuple[list[Heat], str | None]:
        """Read every GPU once, for long enough to tell which is CRITICAL; and why none can be."""
        thermometer = self._thermometer(())
        try:
            end_ns = self._clock() + round(self._patience.look_s * _SECOND)
            while not thermometer.is_decided and self._clock() < end_ns:
                await asyncio.sleep(self._patience.tick_s)
                thermometer.tick()
            return thermometer.heats(), thermometer.fault
        finally:
            await thermometer.aclose()

    async def begin(self, hot: Collection[Heat], *, before: Iterable[StoppedUnit] = ()) -> Stopped:
        """Name who is not ours to stop, and stop what runs in the slice.

        `before` was stopped for an earlier heat, and is not started again yet.
        """
        words = ", ".join(heat.words for heat in hot)
        self._log.critical(
            "overheat.confirmed",
            message=f"{SERVICE} failed because of heat, and {words}: what runs in {SLICE} is"
            " stopped until it is cool",
            gpus=[heat.uuid for heat in hot],
            temperatures_c=[heat.temperature_c for heat in hot],
        )
        holders = list(self._holders())
        self._name([holder for holder in holders if not holder.in_slice])
        held = {holder.unit for holder in holders if holder.in_slice and holder.unit is not None}
        gpus = tuple(heat.uuid for heat in hot)
        since_ns, units = self._clock(), tuple(before)
        stopped = Stopped(boot_id=self._boot_id, since_ns=since_ns, gpus=gpus, units=units)
        return await self.stop_models(stopped, held=held)

    async def stop_models(self, stopped: Stopped, *, held: Collection[str] = ()) -> Stopped:
        """Record what runs in the slice, then stop it; also what comes up meanwhile.

        `held` are units that have a lease now.
        """
        for _ in range(_LOOKS):
            try:
                found = await self._systemctl.running_in(SLICE)
            except SystemctlError as error:
                self._log.error("overheat.models_unknown", message=str(error))
                break
            stopped = _with(stopped, found, held)
            self._save(stopped)
            names = [each["Id"] for each in found]
            if not names:
                break
            await self._stop(names)
        self._notifier.send(f"STATUS={self._standing(stopped)}")
        return stopped

    async def finish(self, stopped: Stopped) -> Stopped:
        """Wait until it is cool, however long that takes, and start all again in order.

        Returns what is not started as the daemon has failed anew meanwhile: no unit, mostly.
        """
        patience = self._patience
        first = True
        while True:
            began_ns = self._clock()
            cool = await self._await_cool(stopped, patient=first)
            if cool:
                starting = replace(stopped, stage="starting", since_ns=self._clock())
                self._save(starting)
                if await self._start_daemon():
                    return await self.start_models(starting)
            wait_s = patience.retry_s
            if not first:
                wait_s = max(0.0, wait_s - (self._clock() - began_ns) / _SECOND)
            first = False
            await asyncio.sleep(wait_s)

    async def _await_cool(self, stopped: Stopped, *, patient: bool) -> bool:
        """Tell whether the GPUs get cool. Not `patient`: give up where they do not get cooler."""
        # What was cool once need not be so for as long again.
        thermometer = self._thermometer(stopped.gpus if stopped.stage == "stopped" else ())
        end_ns = now_ns = self._clock()
        look_ns = now_ns + round(self._patience.look_s * _SECOND)
        if patient:
            end_ns += self._tell_waiting(stopped)
        told = ""
        try:
            while True:
                await asyncio.sleep(self._patience.tick_s)
                thermometer.tick()
                status = f"{_readings(thermometer)}; {self._standing(stopped)} until it is cool"
                if status != told and self._notifier.send(f"STATUS={status}"):
                    told = status
                if thermometer.are_cool(stopped.gpus):
                    self._tell_cool(thermometer, stopped)
                    return True
                # What gets cooler is not given up in the middle: by its dwells it ends by itself.
                now_ns = self._clock()
                known = thermometer.is_decided or now_ns >= look_ns
                if now_ns >= end_ns and known and not thermometer.are_cooling(stopped.gpus):
                    break
            self._tell_hot(thermometer, stopped)
            return False
        finally:
            await thermometer.aclose()

    async def start_models(self, stopped: Stopped, *, without_daemon: bool = False) -> Stopped:
        """Start them one after the other, and return what is left as the daemon has failed anew.

        What is started is taken off the record at once: whoever goes on, goes on with the rest.
        """
        for unit in stopped.units:
            if not without_daemon and await self._has_failed_anew(stopped):
                return stopped
            self._notifier.send(f"STATUS=it is cool: starts {unit.name}")
            await self._start_model(unit)
            stopped = replace(stopped, units=stopped.units[1:])
            self._save(stopped)
        self._record.remove()
        message = "it is cool, and what was stopped was started again"
        self._log.info("overheat.over", message=message, gpus=stopped.gpus)
        self._notifier.send(f"STATUS={message}")
        return stopped

    async def _has_failed_anew(self, stopped: Stopped) -> bool:
        try:
            shown = await self._systemctl.show(SERVICE, "ActiveState")
        except SystemctlError as error:
            self._log.error("overheat.systemd_unknown", message=str(error))
            return False
        if shown.get("ActiveState") != "failed":
            return False
        names = [unit.name for unit in stopped.units]
        self._log.warning(
            "overheat.failed_anew",
            message=f"{SERVICE} has failed anew: looks whether heat is the cause before it starts"
            f" {', '.join(names)}",
            unit_names=names,
        )
        return True

    async def _start_daemon(self) -> bool:
        """Start the socket, then the service; False where that does not start."""
        try:
            await self._systemctl.reset_failed((_SOCKET, SERVICE))
            # First: the service without it would be one that nobody is handed.
            await self._systemctl.start(_SOCKET, within_s=self._patience.socket_s)
            await self._systemctl.start(SERVICE, within_s=self._patience.service_s)
        except SystemctlError as error:
            message = (
                f"it is cool, but the daemon does not start: {error}. The models stay stopped;"
                f" tries again in {self._patience.retry_s:g} s"
            )
            self._log.error("overheat.daemon_not_started", message=message, unit_name=SERVICE)
            self._notifier.send(f"STATUS={message}")
            return False
        self._log.info(
            "overheat.daemon_started",
            message=f"started {_SOCKET} and {SERVICE} again",
            unit_name=SERVICE,
        )
        return True

    async def _start_model(self, unit: StoppedUnit) -> None:
        name = unit.name
        if unit.transient:
            self._log.warning(
                "overheat.model_not_started",
                message=f"{name} cannot be started again: it had no unit file",
                unit_name=name,
            )
            return
        # What it had used up of its start limit before is no reason now. systemd may have forgotten
        # a unit that does not run, and its limit with it: then there is nothing to reset.
        with suppress(SystemctlError):
            await self._systemctl.reset_failed((name,))
        within_s, look_s = self._patience.model_s, self._patience.model_look_s
        try:
            is_up = await start_model(self._systemctl, name, within_s=within_s, look_s=look_s)
        except StillRunningError:
            message = f"{name} is starting, and takes its time; goes on with the next"
            self._log.warning("overheat.model_starting", message=message, unit_name=name)
        except SystemctlError as error:
            message = f"{name} does not start again: {error}"
            self._log.error("overheat.model_not_started", message=message, unit_name=name)
        else:
            if is_up:
                message = f"started {name} again"
                self._log.info("overheat.model_started", message=message, unit_name=name)
            else:
                message = f"{name} waits for a lease; goes on with the next"
                self._log.info("overheat.model_starting", message=message, unit_name=name)

    async def _stop(self, names: list[str]) -> None:
        self._log.warning(
            "overheat.models_stopping",
            message=f"stops {', '.join(names)}",
            unit_names=names,
        )
        try:
            await self._systemctl.stop(names, within_s=self._patience.stop_s)
        except SystemctlError as error:
            # It may go on; the next look says what still runs.
            self._log.error("overheat.models_not_stopped", message=str(error), unit_names=names)
        else:
            self._log.warning(
                "overheat.models_stopped",
                message=f"stopped {', '.join(names)}",
                unit_names=names,
            )

    def _save(self, stopped: Stopped) -> None:
        try:
            self._record.save(stopped)
        except OSError as error:
            # A host that is too hot is stopped all the same; this process remembers, too.
            self._log.error(
                "overheat.record_not_written",
                message=f"cannot record what is stopped, and a kill would lose it: {error}",
                unit_names=[unit.name for unit in stopped.units],
            )

    def _name(self, outside: Iterable[LeaseHolder]) -> None:
        for holder in outside:
            where = f"in {holder.unit}" if holder.unit is not None else "in no unit"
            self._log.warning(
                "overheat.holder_outside",
                message=f"pid {holder.pid} {where} ({holder.command or 'unknown'}) holds lease"
                f" {holder.lease} and is not stopped: stop it if the heat is its",
                lease=holder.lease,
                holder_pid=holder.pid,
                holder_unit=holder.unit,
                owner_uid=holder.owner_uid,
                gpus=holder.gpus,
            )

    def _tell_waiting(self, stopped: Stopped) -> int:
        limit_s = self._patience.cool_s
        self._log.info(
            "overheat.waiting",
            message=f"waits up to {limit_s:g} s for the GPUs to be cool",
            gpus=stopped.gpus,
            limit_s=limit_s,
        )
        return round(limit_s * _SECOND)

    def _tell_cool(self, thermometer: Thermometer, stopped: Stopped) -> None:
        self._log.info(
            "overheat.cool",
            message=f"{_readings(thermometer)}: cool enough to start all again",
            gpus=stopped.gpus,
        )

    def _tell_hot(self, thermometer: Thermometer, stopped: Stopped) -> None:
        message = (
            f"{_readings(thermometer)}: not cool; {self._standing(stopped)},"
            f" looks again every {self._patience.retry_s:g} s"
        )
        self._log.error(
            "overheat.still_hot",
            message=message,
            gpus=stopped.gpus,
            retry_s=self._patience.retry_s,
        )
        self._notifier.send(f"STATUS={message}")

    def _standing(self, stopped: Stopped) -> str:
        if stopped.stage == "starting":
            return f"{len(stopped.units)} models are still to be started"
        return f"the daemon and {len(stopped.units)} models stay stopped"


def _with(stopped: Stopped, found: list[dict[str, str]], held: Collection[str]) -> Stopped:
    known = {unit.name for unit in stopped.units}
    new = (
        StoppedUnit(
            name=each["Id"],
            transient=each.get("Transient") == "yes",
            held=each["Id"] in held,
            served=each.get(ACTIVE_SINCE, "0") != "0",
        )
        for each in found
        if each["Id"] not in known
    )
    units = sorted((*stopped.units, *new), key=lambda unit: unit.turn)
    return replace(stopped, units=tuple(units))


def _readings(thermometer: Thermometer) -> str:
    words = ", ".join(heat.words for heat in thermometer.heats())
    return words or f"no GPU can be read ({thermometer.fault or 'not yet'})"
