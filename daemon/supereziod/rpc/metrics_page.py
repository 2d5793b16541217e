"""docs/metrics.md, made of the families that parts declare: `python -m` with this module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, get_args

from superezio.wire import FitnessState, GpuStatus, Level, Verdict
from supereziod.gpu.metrics import THROTTLE_REASONS, GpuMetrics
from supereziod.health.metrics import HealthMetrics
from supereziod.leases.metrics import STATES, LeaseMetrics
from supereziod.observability.daemon_metrics import DaemonMetrics
from supereziod.observability.event_counts import EventCounts
from supereziod.observability.metrics import Family
from supereziod.observability.recorder_metrics import RecorderMetrics
from supereziod.resilience.metrics import (
    CAUSES,
    DIMENSIONS,
    WINDOWS,
    BreakerMetrics,
    CacheMetrics,
    LimitMetrics,
)
from supereziod.resilience.metrics import STATES as BREAKER_STATES
from supereziod.rpc.markdown import table
from supereziod.rpc.traffic_metrics import TrafficMetrics

#: All that metrics.get may answer with, by the subject.
SECTIONS: Final[dict[str, Sequence[Family]]] = {
    "GPUs": GpuMetrics.families,
    "Leases": LeaseMetrics.families,
    "Health": HealthMetrics.families,
    "Requests": TrafficMetrics.families,
    "Breakers": BreakerMetrics.families,
    "Limits": LimitMetrics.families,
    "Cache": CacheMetrics.families,
    "The flight recorder": RecorderMetrics.families,
    "Events": EventCounts.families,
    "The daemon": DaemonMetrics.families,
}


def _one_of(type_: Any) -> str:  # noqa: ANN401 - a type form
    return _codes(get_args(type_))


def _codes(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


#: What the values of each label are.
LABELS: Final[dict[str, str]] = {
    "gpu": "the index of the GPU, as `0`; of a MIG instance as `0:1`. A boot may change it",
    "uuid": "the UUID of the GPU or MIG instance, which stays",
    "name": "what the driver calls the GPU",
    "pci_bus_id": "where the GPU sits",
    "parent": "of a MIG instance the UUID of its GPU",
    "mig_profile": "of a MIG instance its size, such as `1g.10gb`",
    "status": _one_of(GpuStatus),
    "level": _one_of(Level),
    "fitness": _one_of(FitnessState),
    "reason": _codes(tuple(THROTTLE_REASONS)),
    "kind": "`corrected`, `uncorrected`",
    "state": f"of leases {_codes(STATES)}; of breakers {_codes(BREAKER_STATES)}",
    "breaker": "a breaker that the configuration shares: `[breaker.shared.NAME]`",
    "limit": "a limit that it shares: `[limit.shared.NAME]`",
    "dimension": _codes(DIMENSIONS),
    "window": _codes(WINDOWS),
    "namespace": "a namespace that it shares: `[cache.shared.NAME]`",
    "cause": _codes(tuple(CAUSES)),
    "verdict": _one_of(Verdict),
    "check": "a name from the table of [checks](rpc.md#checks)",
    "type": "a name from the table of [events](rpc.md#events), or `other`",
    "version": "the version of the daemon",
    "python_version": "the version of Python that it runs on",
}

_HEAD: Final = """\
# Metrics

`superezioctl metrics` prints what the daemon knows in the text format of Prometheus; programs ask
[metrics.get](rpc.md#metricsget) for it. Anyone on the host may: there is no user, process, lease or
request in it, and of breakers, limits and namespaces no name but those that the configuration has.

To try it on simulated GPUs:

```console
$ dir="$(mktemp -d)"
$ export SUPEREZIO_SOCKET="$dir/control.sock"
$ supereziod --gpu-driver simulated --state-dir "$dir" --log-format json 2>"$dir/log" &
$ daemon=$!
$ superezioctl wait --timeout 20s
$ superezioctl metrics | grep ^superezio_gpu_temperature
$ superezioctl metrics --textfile "$dir/superezio.prom"
$ grep ^superezio_up "$dir/superezio.prom"
$ kill "$daemon"
```

## Into Prometheus

The daemon has no network. node_exporter has, and its textfile collector takes what it finds in the
folder of `--collector.textfile.directory`, in files that end in `.prom`. Let a timer write one,
with these two files in `/etc/systemd/system` and `systemctl enable --now superezio-metrics.timer`:

```ini
# superezio-metrics.service
[Unit]
Description=Metrics of superezio for node_exporter

[Service]
Type=oneshot
ExecStart=superezioctl metrics --textfile /var/lib/node_exporter/superezio.prom
# No daemon: the file says so.
SuccessExitStatus=5
```

```ini
# superezio-metrics.timer
[Timer]
OnBootSec=15s
OnUnitActiveSec=15s
AccuracySec=1s

[Install]
WantedBy=timers.target
```

The file is replaced as a whole, so that node_exporter never reads half of one. Where no daemon
answers it says `superezio_up 0` and nothing else: no old temperature passes for one of now. That
the timer itself does not run is told by `node_textfile_mtime_seconds`.

## What is not there

What a card, the driver or the daemon does not know has no sample; it is never 0. A GPU that does
not answer has no measurements, only its status and the age of the last reading. A MIG instance has
its memory, and what is leased on it; temperature, power, level and fitness are its GPU's.

Of a family with a state as its last label the samples are 1 for the state that holds and 0 for the
others.

## Alerts to begin with

```yaml
groups:
  - name: superezio
    rules:
      - alert: SuperezioDown
        expr: superezio_up == 0
        for: 1m
      - alert: SuperezioNotHealthy
        expr: superezio_health_verdict{verdict="healthy"} == 0
        for: 5m
      - alert: GpuNearSlowdown
        expr: superezio_gpu_margin_celsius <= 6
        for: 1m
      - alert: GpuDoesNotAnswer
        expr: superezio_gpu_status{status="ok"} == 0
        for: 1m
      - alert: GpuNotTrusted
        expr: superezio_gpu_fitness{fitness="quarantined"} == 1
      - alert: LeasesWaitForLong
        expr: min_over_time(superezio_lease_queue_length[30m]) > 0
      - alert: ServiceIsGivenUpOn
        expr: avg_over_time(superezio_breaker_state{state="open"}[10m]) > 0.8
      - alert: MoneyRunsOut
        expr: superezio_limit_spent >= 0.9 * superezio_limit_cap
      - alert: LeasesAreLost
        expr: increase(superezio_events_total{type="lease.lost"}[15m]) > 0
```
"""


def render_page() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *(_section(*each) for each in SECTIONS.items()), _labels()])


def _section(title: str, families: Sequence[Family]) -> str:
    rows = [
        (f"`{each.name}`", each.kind, _codes(each.labels), each.help.replace("|", "\\|"))
        for each in families
    ]
    return f"## {title}\n\n{table(('metric', 'type', 'labels', 'what'), rows)}"


def _labels() -> str:
    rows = [(f"`{name}`", meaning) for name, meaning in LABELS.items()]
    return f"## Labels\n\n{table(('label', 'values'), rows)}"


if __name__ == "__main__":
    sys.stdout.write(render_page())
