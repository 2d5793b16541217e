"""What a health check is: declared data, with one function that looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from superezio.wire import Severity


class Finding(Struct, frozen=True, kw_only=True):
    """One thing a check found wrong: a sentence, and the GPU if it is one GPU's.

    `action` says what mends it where that differs from what the check says.
    """

    message: str
    gpu: str | None = None
    action: str | None = None


class Check(Struct, frozen=True, kw_only=True):
    """A condition to look for.

    `depends_on` names the checks whose failure explains this one, so that it is hidden meanwhile
    (a GPU's finding only by findings of no GPU or of the same one). A finding is shown, and
    counts, once it has stood for `time_to_visible_s`. `info` never touches the verdict and
    `warning` makes it degraded. Unhealthy, for which the daemon is restarted, is only what has
    stood for `unhealthy_after_s`: everything that a restart does not cure leaves that at None.
    """

    code: str
    severity: Severity
    probe: Callable[[], Sequence[Finding]]
    action: str
    depends_on: tuple[str, ...] = ()
    time_to_visible_s: float = 0.0
    unhealthy_after_s: float | None = None
