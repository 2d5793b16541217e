"""The checks of this daemon, as one table.

What a restart does not cure is a warning, however bad it is: only `gpu_critical` ever makes the
host unhealthy, and only past its grace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from supereziod.gpu.absence import DRIVER_REMEDIES
from supereziod.gpu.hardware import GpuView, Snapshot
from supereziod.health.check import Check, Finding

#: A reader of the log may take so long, as a terminal or a disk under load does.
_LOG_PATIENCE_S: Final = 2.0


def _no_messages() -> Sequence[str]:
    return ()


def _no_gpus() -> Mapping[str, str]:
    return {}


def _nothing() -> str | None:
    return None


def _none_wait() -> tuple[int, float]:
    return 0, 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """Where the checks look. Each is called at every look: cheap, and never blocking.

    Messages are sentences for people; mappings are from the UUID of a GPU to its message.
    """

    snapshot: Callable[[], Snapshot]
    #: Why no probe answers, or probes that the kernel cannot end.
    probe_faults: Callable[[], Sequence[str]] = _no_messages
    #: GPUs that hold more than was reserved, with the pids that grew.
    overcommitted: Callable[[], Mapping[str, str]] = _no_gpus
    #: GPUs whose VRAM did not come back after a release.
    unreturned: Callable[[], Mapping[str, str]] = _no_gpus
    #: That the leases' file cannot be written, or was found corrupt.
    state_faults: Callable[[], Sequence[str]] = _no_messages
    #: Log lines lost in the last minutes, as a sentence.
    log_drops: Callable[[], str | None] = _nothing
    #: Log lines that their reader has not taken, and for how many seconds the first has waited.
    log_waits: Callable[[], tuple[int, float]] = _none_wait
    #: How late the event loop was at its worst in the last minute, in seconds.
    loop_lag_s: Callable[[], float] = float
    #: Why the daemon could not call itself.
    self_check: Callable[[], str | None] = _nothing
    #: That the table of connections is full.
    connections: Callable[[], str | None] = _nothing
    #: That fewer files may be open than all connections and leases need.
    open_files: Callable[[], str | None] = _nothing
    #: Why the last reload of the configuration was refused.
    configuration: Callable[[], str | None] = _nothing
    #: That its watchdog ended an earlier run, and why, until that is forgotten.
    last_watchdog: Callable[[], str | None] = _nothing
    #: That the run before this one ended suddenly, until that is forgotten.
    sudden_end: Callable[[], str | None] = _nothing
    #: Why flight records do not outlive the daemon, or which file was no ring.
    recorder: Callable[[], Sequence[str]] = _no_messages
    #: That the file of what outlives a reboot cannot be written, or was found corrupt.
    unkept: Callable[[], Sequence[str]] = _no_messages


def declared_checks(
    observed: Observed, *, grace_s: float = 30.0, lag_limit_s: float = 1.0
) -> tuple[Check, ...]:
    """Return every check. `grace_s`: how long leases may drain from a CRITICAL GPU."""
    checks = (_driver_checks(observed), _gpu_checks(observed, grace_s=grace_s))
    return (*checks[0], *checks[1], *_daemon_checks(observed, lag_limit_s=lag_limit_s))


def _driver_checks(observed: Observed) -> tuple[Check, ...]:
    snapshot = observed.snapshot
    return (
        Check(
            code="starting",
            severity="info",
            probe=lambda: _if(not snapshot().ready, "the first readings are not in yet"),
            action="Wait; each GPU is placed with its first reading.",
            # Every start takes a moment, which is no news.
            time_to_visible_s=3.0,
        ),
        Check(
            code="probe_detached",
            severity="warning",
            probe=lambda: _if(not snapshot().attached, "the probe is detached from the GPUs"),
            action="Run `superezioctl gpu attach` when the work on the driver is done.",
        ),
        Check(
            code="driver",
            severity="warning",
            probe=lambda: _driver_fault(snapshot()),
            action="See the journal; the daemon tries again by itself.",
            depends_on=("probe_detached",),
        ),
        Check(
            code="probe",
            severity="warning",
            probe=lambda: [Finding(message=message) for message in observed.probe_faults()],
            action="A replacement starts by itself; a stuck one may need a reboot.",
            depends_on=("driver", "probe_detached"),
            time_to_visible_s=2.0,
        ),
        Check(
            code="no_gpus",
            severity="warning",
            probe=lambda: _if(_answers_without_gpus(snapshot()), "the driver knows no GPU"),
            action="Check the seating and power of the cards (lspci -d 10de:) and the journal.",
            depends_on=("driver", "probe", "probe_detached", "starting"),
            time_to_visible_s=2.0,
        ),
    )


def _gpu_checks(observed: Observed, *, grace_s: float) -> tuple[Check, ...]:
    def each(describe: Callable[[GpuView], str | None]) -> Callable[[], list[Finding]]:
        return lambda: _each_gpu(observed.snapshot(), describe)

    return (
        Check(
            code="gpu_critical",
            severity="warning",
            probe=each(lambda gpu: _at_level(gpu, "critical")),
            action="Let the card cool: stop what runs on it, look at fans and dust.",
            unhealthy_after_s=grace_s,
        ),
        Check(
            code="gpu_lost",
            severity="warning",
            probe=each(lambda gpu: _in_status(gpu, "lost", "is lost to the driver")),
            action="Reset the GPU or reboot; if it comes back by itself it is on probation.",
            depends_on=("driver", "probe_detached"),
        ),
        Check(
            code="gpu_unknown",
            severity="warning",
            probe=each(_unknown),
            action="It admits no lease and recovers by itself; if not, see the journal and reboot.",
            depends_on=("starting", "driver", "probe", "probe_detached", "gpu_lost"),
        ),
        Check(
            code="gpu_hot",
            severity="warning",
            probe=each(lambda gpu: _at_level(gpu, "hot")),
            action="It admits no new lease until it has cooled; look at fans and dust.",
        ),
        Check(
            code="gpu_warm",
            severity="info",
            probe=each(lambda gpu: _at_level(gpu, "warm")),
            action="None needed: cooler GPUs are preferred meanwhile.",
        ),
        Check(
            code="gpu_quarantined",
            severity="warning",
            probe=each(lambda gpu: _in_fitness(gpu, "quarantined")),
            action="It earns its way back when it stays clean; see its XIDs in the journal.",
            depends_on=("gpu_lost",),
        ),
        Check(
            code="gpu_suspect",
            severity="info",
            probe=each(lambda gpu: _in_fitness(gpu, "suspect")),
            action="None needed: a suspect that stays clean is cleared.",
            depends_on=("gpu_lost", "gpu_unknown"),
        ),
        Check(
            code="gpu_probation",
            severity="info",
            probe=each(lambda gpu: _in_fitness(gpu, "probation")),
            action="None needed: it is used, and one more fault quarantines it for longer.",
            depends_on=("gpu_lost", "gpu_unknown"),
        ),
        Check(
            code="gpu_cordoned",
            severity="info",
            probe=lambda: _findings(observed.snapshot().gpus, _cordoned),
            action="Run `superezioctl gpu uncordon GPU` when it may be leased again.",
        ),
        Check(
            code="mig_lost",
            severity="warning",
            probe=lambda: _each_part(observed.snapshot(), _lost_part),
            action="Release its leases, or cut the GPU with MIG as it was.",
            depends_on=("driver", "probe_detached"),
        ),
        Check(
            code="mig_unreadable",
            severity="warning",
            probe=lambda: _each_part(observed.snapshot(), _unreadable_part),
            action="Let the daemon's user into the nodes of /dev/nvidia-caps (nvidia-cap*).",
            depends_on=("driver", "probe_detached"),
        ),
        Check(
            code="gpu_overcommitted",
            severity="warning",
            probe=lambda: _by_gpu(observed.overcommitted()),
            action="Stop one of the processes named, or give its lease what it uses.",
            depends_on=("gpu_unknown", "gpu_lost", "driver", "probe_detached"),
        ),
        Check(
            code="vram_unreturned",
            severity="warning",
            probe=lambda: _by_gpu(observed.unreturned()),
            action="See `superezioctl gpu show` for who still holds it; it counts as foreign use.",
            depends_on=("gpu_unknown", "gpu_lost", "driver", "probe_detached"),
        ),
    )


def _daemon_checks(observed: Observed, *, lag_limit_s: float) -> tuple[Check, ...]:
    return (
        Check(
            code="state_not_writable",
            severity="warning",
            probe=lambda: [Finding(message=message) for message in observed.state_faults()],
            action="Free space in, or fix the rights of, the runtime directory: no lease is granted"
            " until then; existing leases stand.",
        ),
        Check(
            code="state_not_kept",
            severity="warning",
            probe=lambda: [Finding(message=message) for message in observed.unkept()],
            action="Free space in, or fix the rights of, the state directory: what is cordoned or"
            " quarantined now is forgotten with the boot until then; leases are granted, and kept.",
        ),
        Check(
            code="log_drops",
            severity="warning",
            probe=lambda: _if_any(observed.log_drops()),
            action="The journal is slower than the daemon: look at its disk or raise its limits.",
        ),
        Check(
            code="logging",
            severity="warning",
            probe=lambda: _waiting(*observed.log_waits()),
            action="See `systemctl status systemd-journald` and the space of its disk, or who reads"
            " the log: what waits is sent when it is read again.",
        ),
        Check(
            code="loop_lag",
            severity="warning",
            probe=lambda: _late(observed.loop_lag_s(), lag_limit_s),
            action="The machine is overloaded or the daemon blocks: see the journal, report it.",
        ),
        Check(
            code="self_check",
            severity="warning",
            probe=lambda: _if_any(observed.self_check()),
            action="See the journal for why the daemon does not answer itself.",
            depends_on=("connections",),
        ),
        Check(
            code="connections",
            severity="warning",
            probe=lambda: _if_any(observed.connections()),
            action="Find the client that holds them, or raise the limit in the configuration.",
        ),
        Check(
            code="open_files",
            # It bites only under a load that few hosts ever see, and is then told to the caller.
            severity="info",
            probe=lambda: _if_any(observed.open_files()),
            action="Raise LimitNOFILE in the unit, or lower limits.connections.",
        ),
        Check(
            code="configuration",
            severity="warning",
            probe=lambda: _if_any(observed.configuration()),
            action="Mend the file (`superezioctl config check`) and run `superezioctl reload`.",
        ),
        Check(
            code="watchdog_restarted",
            severity="info",
            probe=lambda: _if_any(observed.last_watchdog()),
            action="See `journalctl -u superezio EVENT=watchdog.withheld -n 1`.",
        ),
        Check(
            code="restarted_suddenly",
            severity="info",
            probe=lambda: _if_any(observed.sudden_end()),
            action="See `journalctl -u superezio -b`, or `journalctl -b -1` after a boot.",
        ),
        Check(
            code="flight_recorder",
            severity="warning",
            probe=lambda: [Finding(message=message) for message in observed.recorder()],
            action="Free space in, or fix the rights of, the state directory, and restart.",
        ),
    )


def _if(condition: bool, message: str) -> list[Finding]:  # noqa: FBT001 - a private shorthand
    return [Finding(message=message)] if condition else []


def _if_any(message: str | None) -> list[Finding]:
    return [Finding(message=message)] if message is not None else []


def _late(lag_s: float, limit_s: float) -> list[Finding]:
    return _if(lag_s > limit_s, f"the event loop was {lag_s:.1f} s late in the last minute")


def _waiting(lines: int, waited_s: float) -> list[Finding]:
    return _if(
        waited_s >= _LOG_PATIENCE_S,
        f"{lines} log lines wait for their reader, the first for {waited_s:.0f} s",
    )


def _by_gpu(messages: Mapping[str, str]) -> list[Finding]:
    return [Finding(message=message, gpu=uuid) for uuid, message in messages.items()]


def _each_gpu(snapshot: Snapshot, describe: Callable[[GpuView], str | None]) -> list[Finding]:
    """Look at each GPU, once: what it is its MIG instances are too."""
    return _findings([gpu for gpu in snapshot.gpus if gpu.identity.mig is None], describe)


def _each_part(snapshot: Snapshot, describe: Callable[[GpuView], str | None]) -> list[Finding]:
    """Look at each MIG instance whose GPU is not what ails it."""
    parts = [gpu for gpu in snapshot.gpus if gpu.identity.mig is not None]
    if not parts:
        return []
    sound = {gpu.uuid for gpu in snapshot.gpus if gpu.status == "ok"}
    mine = [p for p in parts if p.identity.mig is not None and p.identity.mig.parent in sound]
    return _findings(mine, describe)


def _findings(gpus: Iterable[GpuView], describe: Callable[[GpuView], str | None]) -> list[Finding]:
    found = ((gpu, describe(gpu)) for gpu in gpus)
    return [
        Finding(message=f"{_name(gpu)} {what}", gpu=gpu.uuid)
        for gpu, what in found
        if what is not None
    ]


def _name(gpu: GpuView) -> str:
    return gpu.identity.label


def _driver_fault(snapshot: Snapshot) -> list[Finding]:
    fault = snapshot.driver_fault
    if fault is None:
        return []
    return [Finding(message=fault.message, action=DRIVER_REMEDIES.get(fault.kind))]


def _answers_without_gpus(snapshot: Snapshot) -> bool:
    return snapshot.ready and snapshot.driver is not None and not snapshot.gpus


def _in_status(gpu: GpuView, status: str, what: str) -> str | None:
    if gpu.status != status:
        return None
    return f"{what}: {gpu.status_reason}" if gpu.status_reason else what


def _lost_part(gpu: GpuView) -> str | None:
    return _in_status(gpu, "lost", "has leases and is lost")


def _unreadable_part(gpu: GpuView) -> str | None:
    return _in_status(gpu, "unknown", "cannot be read")


def _unknown(gpu: GpuView) -> str | None:
    if gpu.status == "unknown":
        return _in_status(gpu, "unknown", "does not answer")
    if gpu.status != "ok" or gpu.level != "unknown":
        return None
    if gpu.sample is None or gpu.sample.temperature_c is None:
        return "answers without a temperature"
    return "answers, but its margin is not known or has not been good for long enough"


def _at_level(gpu: GpuView, level: str) -> str | None:
    if gpu.level != level or gpu.status in {"lost", "detached"}:
        return None
    sample = gpu.sample
    if sample is None or sample.temperature_c is None:
        return f"is {level.upper()}"
    margin = f", margin {sample.margin_c} C" if sample.margin_c is not None else ""
    now = f"is {level.upper()} at {sample.temperature_c} C{margin}"
    cooling = gpu.cooling
    if cooling is None:
        return now
    peak = f"was at {cooling.peak_c} C, " if cooling.peak_c is not None else ""
    return (
        f"{now}: it {peak}has been cool for {cooling.cool_s:.0f} s, and is"
        f" {level.upper()} for {cooling.left_s:.0f} s more"
    )


def _in_fitness(gpu: GpuView, fitness: str) -> str | None:
    return f"is {fitness}" if gpu.fitness == fitness else None


def _cordoned(gpu: GpuView) -> str | None:
    if not gpu.cordoned:
        return None
    return f"is cordoned: {gpu.cordon_reason}" if gpu.cordon_reason else "is cordoned"
