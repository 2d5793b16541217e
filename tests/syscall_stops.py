"""Follows a process from system call to system call while it answers requests, and kills it.

With ptrace(2), as strace does, and no more than is needed: one thread, and its calls' entries.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Collection
from contextlib import suppress
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long

_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_SYSCALL: Final = 24
_DETACH: Final = 17
_GET_SYSCALL_INFO: Final = 0x420E
_O_TRACESYSGOOD: Final = 1
_EVENT_STOP: Final = 128
_SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
_ENTRY, _EXIT = 1, 2
#: read recvfrom recvmsg readv, and write sendto sendmsg writev.
_READS: Final = {"x86_64": {0, 45, 47, 19}, "aarch64": {63, 207, 212, 65}}
_WRITES: Final = {"x86_64": {1, 44, 46, 20}, "aarch64": {64, 206, 211, 66}}


class _Call(ctypes.Structure):
    """struct ptrace_syscall_info: `value` is the call's number at its entry, its result at exit."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("value", ctypes.c_int64),
        ("arguments", ctypes.c_uint64 * 6),
    )


def why_not() -> str | None:
    """Return why nothing can be followed here, or None."""
    if platform.machine() not in _READS:
        return f"the numbers of the calls of a {platform.machine()} are not known here"
    with suppress(OSError):
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            _trace(_SEIZE, child)
        except PermissionError as error:
            return f"ptrace is not permitted: {error}"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return None


class Follower:
    """Stops the main thread of `pid`, a child of ours, at each system call, until `follow` ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        machine = platform.machine()
        self._reads, self._writes = _READS[machine], _WRITES[machine]
        self._stands, self._signal = False, 0
        _trace(_SEIZE, pid, data=_O_TRACESYSGOOD)
        _trace(_INTERRUPT, pid)
        os.waitpid(pid, 0)
        _trace(_SYSCALL, pid)

    def follow(self, requests: Collection[int], *, kill_at: int | None) -> int:
        """Kill it at the entry of the n-th call after it read the first of some requests.

        Each is known by its length in bytes, and has ended when something was written to where it
        came from. Returns how many calls were entered until all had, the last write included:
        fewer than `kill_at`, or that one.
        """
        unread, unanswered = set(requests), set[int]()
        number, arguments = -1, [0] * 6
        entered = 0
        while True:
            call = self._next_call()
            if call.op == _ENTRY:
                number, arguments = call.value, list(call.arguments)
                entered += len(unread) < len(requests)
                if entered == kill_at:
                    os.kill(self._pid, signal.SIGKILL)
                    return entered
            elif number in self._reads and call.value in unread:
                unread.remove(call.value)
                unanswered.add(arguments[0])
            elif number in self._writes and arguments[0] in unanswered and call.value > 0:
                unanswered.remove(arguments[0])
                if not unread and not unanswered:
                    _trace(_DETACH, self._pid)
                    return entered

    def _next_call(self) -> _Call:
        """Return the next entry or exit of a call; the process stands still at it."""
        call = _Call()
        while True:
            # It stands at a call that was looked at, unless this is the first.
            if self._stands:
                _trace(_SYSCALL, self._pid, data=self._signal)
            self._stands, self._signal = True, 0
            _, status = os.waitpid(self._pid, 0)
            assert os.WIFSTOPPED(status), f"the process ended by itself: {status}"
            stop = os.WSTOPSIG(status)
            if stop == _SYSCALL_STOP:
                size = ctypes.sizeof(call)
                _trace(_GET_SYSCALL_INFO, self._pid, address=size, data=ctypes.addressof(call))
                return call
            if status >> 16 != _EVENT_STOP:
                self._signal = stop


def _trace(request: int, pid: int, *, address: int = 0, data: int = 0) -> None:
    if _LIBC.ptrace(request, pid, address, data) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
