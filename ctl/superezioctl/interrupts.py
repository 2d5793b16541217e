"""What an interrupt (Ctrl-C) does: it ends the process, but where something has to be tidied up.

Python turns it into an exception wherever it happens to be: in the middle of an import that is a
traceback, in that of an extension module a crash, and in a callback it is lost. Where it is ignored
(nohup, a shell's background) it stays so.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, for 2 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def end_the_process() -> None:
    """Give interrupts the system's own effect, if Python has taken them."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def die_of(number: int) -> None:
    """End the process by a signal, as a command was ended that stood for it.

    A shell ends its loop at Ctrl-C only where what it ran was ended by it, whatever the exit code.
    """
    import os  # noqa: PLC0415 - in the end only
    import resource  # noqa: PLC0415 - as above

    # The command's own core, where there is one, is the one that says something.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in {_signal.SIGKILL, _signal.SIGSTOP}:
        _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


class Raised:
    """A block in which an interrupt is a KeyboardInterrupt: one that waits and tidies up."""

    def __enter__(self) -> None:
        self._changed = _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL
        if self._changed:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._changed:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
