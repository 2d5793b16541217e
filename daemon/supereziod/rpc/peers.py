"""Who is at the other end of a Unix socket: what the kernel recorded when it connected."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import Final, Protocol

from msgspec import Struct

# Not in the socket module of every supported Python; the numbers are those of asm-generic.
_SO_PEERGROUPS: Final = 59
_SO_PEERPIDFD: Final = 77

_UCRED: Final = struct.Struct("=iII")
_GID: Final = struct.Struct("=I")
#: The longest answer that `socket.getsockopt` takes: 256 groups.
_PYTHON_MAX_BYTES: Final = 1024
#: NGROUPS_MAX of Linux.
_KERNEL_MAX_BYTES: Final = 65536 * _GID.size


class PeerSocket(Protocol):
    """The part of a socket that is asked. uvloop's transports give no real socket."""

    def fileno(self) -> int:
        """Return the file descriptor."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        """Read an option."""


class Peer(Struct, frozen=True, kw_only=True):
    """The process that connected. `pid` is 0 where it is outside the daemon's pid namespace."""

    uid: int
    gid: int
    pid: int
    groups: frozenset[int]


def read_peer(sock: PeerSocket) -> Peer:
    """Ask the kernel, not NSS: supplementary groups as they were when the peer connected."""
    ucred = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(ucred)
    return Peer(uid=uid, gid=gid, pid=pid, groups=frozenset((gid, *_read_groups(sock))))


def open_peer_pidfd(sock: PeerSocket) -> int | None:
    """Return a pidfd of the process that connected, which the caller closes.

    It is that very process, however late it is asked for: the socket holds on to it, so that a
    reused pid cannot be mistaken for it. None where the kernel is too old, or the process ended.
    """
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _GID.size)
    except OSError:
        return None
    fd: int = struct.unpack("=i", answer)[0]
    os.set_inheritable(fd, False)  # noqa: FBT003 - positional in os
    return fd


def _read_groups(sock: PeerSocket) -> tuple[int, ...]:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _PYTHON_MAX_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            return ()
        packed = _read_many_groups(sock.fileno())
    return tuple(gid for (gid,) in _GID.iter_unpack(packed))


def _read_many_groups(fd: int) -> bytes:
    """Read more groups than Python's own call has room for, as directory services hand out."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_KERNEL_MAX_BYTES)
    length = ctypes.c_uint32(_KERNEL_MAX_BYTES)
    status = libc.getsockopt(fd, socket.SOL_SOCKET, _SO_PEERGROUPS, buffer, ctypes.byref(length))
    return buffer.raw[: length.value] if status == 0 else b""
