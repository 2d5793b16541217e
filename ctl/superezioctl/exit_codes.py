"""What superezioctl's exit codes mean. Scripts rely on them: they do not change."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
UNHEALTHY = 3
REFUSED = 4
NO_DAEMON = 5
#: sysexits.h has it as EX_TEMPFAIL: the same may work later.
REFUSED_FOR_NOW = 75
#: sysexits.h has it as EX_CONFIG: a restart does not mend it.
BAD_FILE = 78
TIMED_OUT = 124
RUN_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
INTERRUPTED = 130
PIPE_CLOSED = 141

#: By kind of error; what is not here is FAILED.
BY_KIND = {
    "invalid_params": USAGE,
    "permission_denied": REFUSED,
    "busy": REFUSED,
    "no_capacity": REFUSED,
    "never_fits": REFUSED,
    "queue_full": REFUSED,
    "wait_timeout": REFUSED,
    "state_not_writable": REFUSED,
    "gpus_unavailable": REFUSED,
    "quota_exceeded": REFUSED,
    "breaker_open": REFUSED,
    "rate_limited": REFUSED,
    "never_passes": REFUSED,
    "fill_timeout": REFUSED,
    "daemon_not_running": NO_DAEMON,
    "reply_timeout": TIMED_OUT,
    "deadline_exceeded": TIMED_OUT,
}
