"""superezio-overheat.service: what has failed and why -> whether to act -> exit code.

It runs as root, and is no part of the daemon. Exit codes: 0 done, or there was nothing to do; 78
heat may be the cause, and the configuration that says how to read the GPUs is bad.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, cast

import msgspec
import structlog

from supereziod import settings
from supereziod.config import ConfigError
from supereziod.health.notifier import Notifier
from supereziod.health.record import StoredReasons, read_reasons
from supereziod.leases.processes import ProcessTable, read_boot_id
from supereziod.leases.store import read_leases
from supereziod.observability.logging_setup import LogFormat, Logging, parse_level
from supereziod.options import Options, resolve
from supereziod.overheat import decision
from supereziod.overheat.decision import SERVICE, Trigger
from supereziod.overheat.holders import LeaseHolder, lease_holders
from supereziod.overheat.record import Stopped, StoppedRecord
from supereziod.overheat.response import SLICE, Patience, Response
from supereziod.overheat.systemctl import Systemctl, SystemctlError
from supereziod.overheat.thermometer import Thermometer, longest_look_s, thresholds_of
from supereziod.storage import StorageError

EX_CONFIG: Final = 78
_DIRECTORY: Final = "/run/superezio-overheat"
#: An earlier run had started the daemon by then, or not at all.
_OWN_START_NS: Final = 120 * 1_000_000_000
#: No exit code: the daemon and the models were stopped, and are started again.
_ACTED: Final = -1


def run(given: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> int:
    """Respond to a failure of the daemon. Returns the exit code."""
    # Not as the configuration has it: that may be what is wrong.
    log_format = cast("LogFormat", given.get("log_format") or "auto")
    level = parse_level(given.get("log_level") or "info")
    with Logging(log_format=log_format, level=level):
        return asyncio.run(_until_stopped(given, environ))


async def _until_stopped(given: Mapping[str, str | None], environ: Mapping[str, str]) -> int:
    """Respond until SIGTERM: what is recorded by then is the next start's."""
    notifier = Notifier(environ=environ)
    work = asyncio.ensure_future(_Attempt(given, environ, notifier).respond())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        structlog.get_logger().warning(
            "overheat.interrupted",
            message="was told to end: what it had stopped stays stopped until superezio-overheat is"
            " started again",
        )
        notifier.send("STOPPING=1", "STATUS=was told to end: what it had stopped stays stopped")
        return 0
    finally:
        notifier.close()


class _Attempt:
    def __init__(
        self, given: Mapping[str, str | None], environ: Mapping[str, str], notifier: Notifier
    ) -> None:
        self._given = given
        self._environ = environ
        self._notifier = notifier
        self._boot_id = read_boot_id()
        directory = environ.get("RUNTIME_DIRECTORY") or _DIRECTORY
        self._record = StoppedRecord(Path(directory.split(":")[0]), boot_id=self._boot_id)
        self._systemctl = Systemctl()
        self._log = structlog.get_logger()
        #: What is not started again yet as the daemon has failed anew, and who would start it.
        self._rest: tuple[Response, Stopped] | None = None

    async def respond(self) -> int:
        """Respond to what has failed, and to what fails while that is done: it starts nothing."""
        stopped = await self._left_over()
        trigger = Trigger.from_environment(self._environ)
        if stopped is not None:
            code = await self._go_on(stopped)
        else:
            if trigger.result is None:
                trigger = await self._failure()
            code = await self._decide(trigger)
        while code == _ACTED and (trigger := await self._failure()).result is not None:
            code = await self._decide(trigger)
        if self._rest is not None:
            # Heat is not the cause: as those that run, they wait for a daemon by themselves.
            response, rest = self._rest
            await response.start_models(rest, without_daemon=True)
        return 0 if code == _ACTED else code

    async def _decide(self, trigger: Trigger) -> int:
        why_not = decision.by_result(trigger)
        if why_not is not None:
            return self._ignore(why_not, trigger)
        options = self._options()
        if options is None:
            return EX_CONFIG
        if options.loaded.config.watchdog.on_overheat == "report":
            # What an earlier run had stored, before that was set, counts no more.
            return self._ignore('watchdog.on_overheat is "report"', trigger)
        why_not = self._by_stored_reason(trigger, options)
        if why_not is not None:
            return self._ignore(why_not, trigger)
        response = self._response(options)
        self._notifier.send("STATUS=reads the GPUs")
        heats, fault = await response.read()
        why_not = decision.by_reading(heats, fault=fault)
        if why_not is not None:
            return self._ignore(why_not, trigger)
        self._notifier.send("READY=1")
        hot = [heat for heat in heats if heat.level == "critical"]
        before = self._rest[1].units if self._rest is not None else ()
        return await self._finish(response, await response.begin(hot, before=before))

    async def _finish(self, response: Response, stopped: Stopped) -> int:
        rest = await response.finish(stopped)
        self._rest = (response, rest) if rest.units else None
        return _ACTED

    async def _left_over(self) -> Stopped | None:
        """Return what an earlier run had stopped, unless it is somebody else's by now."""
        try:
            stopped = self._record.load()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._log.error("overheat.record_unreadable", message=f"cannot go on: {error}")
            return None
        if stopped is None:
            return None
        shown = await self._shown("ActiveEnterTimestampMonotonic")
        started_us = shown.get("ActiveEnterTimestampMonotonic", "")
        own_ns = _OWN_START_NS if stopped.stage == "starting" else 0
        if not started_us.isdecimal() or int(started_us) * 1000 < stopped.since_ns + own_ns:
            return stopped
        names = " ".join(unit.name for unit in stopped.units)
        self._log.warning(
            "overheat.handed_over",
            message=f"{SERVICE} was started by somebody else since the models were stopped: theirs"
            f" to start are {names or 'none'}",
            unit_names=[unit.name for unit in stopped.units],
        )
        self._record.remove()
        return None

    async def _go_on(self, stopped: Stopped) -> int:
        names = ", ".join(unit.name for unit in stopped.units)
        self._log.warning(
            "overheat.resumed",
            message=f"an earlier run ended before all was started again; left are {names or 'none'}"
            f" and {SERVICE}",
            unit_names=[unit.name for unit in stopped.units],
            stage=stopped.stage,
        )
        options = self._options()
        if options is None:
            return EX_CONFIG
        response = self._response(options)
        self._notifier.send("READY=1")
        if stopped.stage == "stopped":
            stopped = await response.stop_models(stopped)
        return await self._finish(response, stopped)

    async def _failure(self) -> Trigger:
        """Return what systemd says of the service when it is asked."""
        shown = await self._shown("ActiveState", "Result", "ExecMainStatus")
        if shown.get("ActiveState") != "failed":
            return Trigger()
        return Trigger(
            unit=SERVICE, result=shown.get("Result"), exit_status=shown.get("ExecMainStatus")
        )

    async def _shown(self, *names: str) -> dict[str, str]:
        try:
            return await self._systemctl.show(SERVICE, *names)
        except SystemctlError as error:
            self._log.error("overheat.systemd_unknown", message=str(error))
            return {}

    def _by_stored_reason(self, trigger: Trigger, options: Options) -> str | None:
        try:
            stored = read_reasons(options.state_dir / "state.db", runtime_dir=options.runtime_dir)
        except StorageError as error:
            self._log.error("overheat.reason_unreadable", message=str(error))
            stored = StoredReasons()
        return decision.by_stored_reason(trigger, stored, boot_id=self._boot_id)

    def _ignore(self, why_not: str, trigger: Trigger) -> int:
        message = f"stops no model: {why_not}"
        self._log.info(
            "overheat.ignored",
            message=message,
            monitor_unit=trigger.unit,
            monitor_result=trigger.result,
        )
        self._notifier.send("READY=1", f"STATUS={message}")
        return 0

    def _options(self) -> Options | None:
        try:
            return resolve(self._given, self._environ)
        except ConfigError as error:
            message = f"stops no model: cannot use the configuration:\n{error}"
            self._log.error("overheat.bad_configuration", message=message)
            self._notifier.send("STATUS=stops no model: cannot use the configuration")
            return None

    def _response(self, options: Options) -> Response:
        gpu, watchdog = options.loaded.config.gpu, options.loaded.config.watchdog
        spec = settings.probe_spec(gpu, runtime_dir=options.runtime_dir, read_only=True)
        rules = settings.monitor_rules(gpu)

        def thermometer(were_critical: Collection[str]) -> Thermometer:
            return Thermometer(
                spec=spec,
                thresholds=thresholds_of(rules.thresholds, rules.thresholds_by_gpu),
                were_critical=were_critical,
            )

        return Response(
            systemctl=self._systemctl,
            record=self._record,
            thermometer=thermometer,
            holders=lambda: self._holders(options),
            notifier=self._notifier,
            patience=Patience(
                cool_s=watchdog.cool_within_s,
                retry_s=watchdog.cool_retry_s,
                look_s=longest_look_s(spec, rules.thresholds, open_s=gpu.probe.open_s),
                tick_s=spec.period_s / 2,
            ),
            boot_id=self._boot_id,
        )

    def _holders(self, options: Options) -> Iterator[LeaseHolder]:
        try:
            records = read_leases(options.runtime_dir / "leases.db", boot_id=self._boot_id)
        except StorageError as error:
            self._log.error("overheat.leases_unreadable", message=str(error))
            return iter(())
        return lease_holders(records, ProcessTable(), slice_=SLICE)
