"""A stand-in for journald: a real datagram socket, and a reader of the entries that arrive."""

from __future__ import annotations

import array
import os
import socket
import struct
from pathlib import Path
from typing import Self

Received = dict[str, str]


class JournalReceiver:
    """Takes what is sent to `path`, in the journal's own format."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._socket.close()

    def entry(self) -> Received:
        """Wait for the next entry, sent as a datagram or as a sealed memory file."""
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_LEN(4))
        for _, _, raw in ancillary:
            fd = array.array("i", raw)[0]
            with os.fdopen(fd, "rb") as memory_file:
                memory_file.seek(0)
                data = memory_file.read()
        return parse(data)


def parse(data: bytes) -> Received:
    """Read `NAME=value` lines, and `NAME`, length, value for values with newlines."""
    fields: Received = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + length], data[8 + length + 1 :]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields
