"""An answer that is not there yet: of the stand-in, to one that waits for room or for a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from superezio.errors import SuperezioError

T = TypeVar("T")


def _nobody() -> None:
    """Tell nobody: nobody waits yet."""


class Pending(Generic[T]):
    """Resolved once, with a result or an error."""

    def __init__(self) -> None:
        self.done = False
        self._result: T | None = None
        self._error: SuperezioError | None = None
        self._changed: Callable[[], None] = _nobody

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed`, from any thread, when it is done or when to look again is sooner."""
        self._changed = changed

    def changed(self) -> None:
        """Wake whoever waits."""
        self._changed()

    def resolve(self, result: T) -> None:
        """Answer."""
        self.done, self._result = True, result
        self._changed()

    def fail(self, error: SuperezioError) -> None:
        """Answer with an error."""
        self.done, self._error = True, error
        self._changed()

    @property
    def granted(self) -> bool:
        """Whether there is a result."""
        return self.done and self._error is None

    def outcome(self) -> T:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)
