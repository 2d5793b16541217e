"""The suite of the overheat unit kills each of these mistakes, planted one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent


def _mutant(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"supereziod.overheat.{module}", old, new)


MUTANTS = (
    _mutant(
        "acts whatever the result is",
        "decision",
        "if trigger.result not in {_WATCHDOG, _START_LIMIT}:",
        "if False:",
    ),
    _mutant("takes a stuck loop for heat", "decision", 'reason.kind != "overheat"', "False"),
    _mutant(
        "takes an earlier run's reason for this one's",
        "decision",
        "        return stored.current\n",
        "        return stored.current or stored.last\n",
    ),
    _mutant(
        "forgets the earlier run at the start limit",
        "decision",
        "stored.current or stored.last",
        "stored.current",
    ),
    _mutant("believes an earlier boot", "decision", "reason.boot_id != boot_id", "False"),
    _mutant(
        "acts for another unit",
        "decision",
        "trigger.unit not in {None, SERVICE}",
        "False",
    ),
    _mutant(
        "acts on what is hot and not critical",
        "decision",
        'heat.level == "critical" for heat in heats',
        'heat.level in {"hot", "critical"} for heat in heats',
    ),
    _mutant(
        "acts where nothing can be read",
        "decision",
        'heat.level == "critical" for heat in heats',
        'heat.level in {"unknown", "critical"} for heat in heats',
    ),
    _mutant(
        "records after the stop",
        "response",
        '            self._save(stopped)\n            names = [each["Id"] for each in found]\n'
        "            if not names:\n                break\n            await self._stop(names)\n",
        '            names = [each["Id"] for each in found]\n'
        "            if not names:\n                break\n            await self._stop(names)\n"
        "            self._save(stopped)\n",
    ),
    _mutant(
        "overlooks what comes up while it stops the others",
        "response",
        "_LOOKS: Final = 3",
        "_LOOKS: Final = 1",
    ),
    _mutant(
        "starts a daemon that is past its start limit",
        "response",
        "            await self._systemctl.reset_failed((_SOCKET, SERVICE))\n",
        "",
    ),
    _mutant(
        "leaves a model down whose start limit is used up",
        "response",
        "            await self._systemctl.reset_failed((name,))\n",
        "            pass\n",
    ),
    _mutant(
        "acts without a fresh reading",
        "service",
        "why_not = decision.by_reading(heats, fault=fault)",
        "why_not = None",
    ),
    _mutant(
        "acts whatever the daemon has stored",
        "service",
        "why_not = self._by_stored_reason(trigger, options)",
        "why_not = None",
    ),
    _mutant(
        "starts models without the daemon",
        "response",
        "                if await self._start_daemon():\n",
        "                if await self._start_daemon() or True:\n",
    ),
    _mutant(
        "starts the service before its socket",
        "response",
        "            await self._systemctl.start(_SOCKET, within_s=self._patience.socket_s)\n"
        "            await self._systemctl.start(SERVICE, within_s=self._patience.service_s)\n",
        "            await self._systemctl.start(SERVICE, within_s=self._patience.service_s)\n"
        "            await self._systemctl.start(_SOCKET, within_s=self._patience.socket_s)\n",
    ),
    _mutant("brings back another boot's", "record", "stopped.boot_id == self._boot_id", "True"),
    _mutant(
        "waits for one that never ends",
        "systemctl",
        "async with asyncio.timeout(within_s):",
        "async with asyncio.timeout(None):",
    ),
    _mutant(
        "takes every slice for the models'",
        "systemctl",
        'each.get("Slice") == slice_ or',
        "True or",
    ),
    _mutant(
        "has systemctl tell systemd of itself",
        "systemctl",
        "if name != _NOTIFY_SOCKET",
        "if name",
    ),
    _mutant("stops what has ended", "systemctl", 'each.get("ActiveState") in _ACTIVE', "True"),
    _mutant(
        "starts all by name", "record", "(not self.held, not self.served, self.name)", "self.name"
    ),
    _mutant("forgets who held a lease", "response", 'each["Id"] in held', "False"),
    _mutant(
        "takes one that never was up for one that served",
        "response",
        'each.get(ACTIVE_SINCE, "0") != "0"',
        "True",
    ),
    _mutant(
        "stands behind a model that waits for a lease",
        "model_start",
        "waits + 1 if",
        "0 if",
    ),
    _mutant(
        "goes on before a model has asked for its lease",
        "model_start",
        "_LOOKS: Final = 2",
        "_LOOKS: Final = 1",
    ),
    _mutant(
        "believes what a model said that ended",
        "model_start",
        'shown.get("SubState") == "start" and ',
        "",
    ),
    _mutant("names models as outside", "holders", 'slice_ in path.split("/")', "False"),
    _mutant("names the dead", "holders", "if not processes.is_alive(held.identity):", "if False:"),
    _mutant(
        "is cool in HOT",
        "thermometer",
        'frozenset({"normal", "warm"})',
        'frozenset({"normal", "warm", "hot"})',
    ),
    _mutant(
        "forgets that it was critical",
        "thermometer",
        '"critical" if was_critical else "unknown"',
        '"unknown"',
    ),
    _mutant(
        "forgets a GPU that gets critical while it waits",
        "thermometer",
        "hot = {*uuids, *(uuid for uuid, gpu in self._gpus.items() if gpu.was_critical)}",
        "hot = set(uuids)",
    ),
    _mutant(
        "decides by the first sample",
        "thermometer",
        "self._samples >= self._needed",
        "self._samples >= 1",
    ),
    _mutant(
        "overlooks a failure while it starts all",
        "service",
        "        while code == _ACTED and (trigger := await self._failure()).result is not None:\n"
        "            code = await self._decide(trigger)\n",
        "",
    ),
    _mutant(
        "starts models though the daemon has failed anew",
        "response",
        'shown.get("ActiveState") != "failed"',
        "True",
    ),
    _mutant(
        "forgets what a second heat kept it from starting",
        "service",
        "self._rest[1].units if self._rest is not None else ()",
        "()",
    ),
    _mutant(
        "leaves models down after a failure that is none of heat",
        "service",
        "            await response.start_models(rest, without_daemon=True)\n",
        "            del response, rest\n",
    ),
    _mutant(
        "starts the rest twice",
        "service",
        "(response, rest) if rest.units else None",
        "self._rest or (response, rest)",
    ),
    _mutant(
        "stops again what it had begun to start",
        "service",
        'if stopped.stage == "stopped":',
        "if True:",
    ),
)


def _tests_of(mutant: Mutant) -> list[Path]:
    return [HERE / f"test_{mutant.module.rpartition('.')[2]}.py"]


mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=_tests_of)
