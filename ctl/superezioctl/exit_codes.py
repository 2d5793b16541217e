"""What superezioctl's exit codes mean. Scripts rely on them: they do not change."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

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


class KilledBy(int):
    """The exit code of a command that a signal killed: 128 and the signal, as a shell has it.

    The process that stood for the command ends by the same signal.
    """

    def __new__(cls, signal: int) -> Self:
        """Return the code for a signal."""
        return super().__new__(cls, 128 + signal)

    @property
    def signal(self) -> int:
        """Which one it was."""
        return self - 128


#: SIGINT has the number 2, and what `signal` imports takes 2 ms.
INTERRUPTED = KilledBy(2)
