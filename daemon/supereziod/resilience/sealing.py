"""Whether the last life of the daemon ended in order, and none has begun since.

A part may have said for the last time what it has, and nothing came after it. But a later life may
have granted without being able to write that it did, and have been killed: what was said last then
still stands in the state directory. So a life that ends in order leaves a seal in two halves, one
in the state directory and one in the runtime directory, and each life breaks both before it grants
anything. Either half that is broken is enough: where one of the two directories cannot be written,
it shows in the other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from supereziod.storage import Documents, StorageError

_DOCUMENT: Final = "seal"
_BROKEN: Final = b"broken"


class Seal:
    """The halves: a document, and the file `path`. A host's boot takes the file away."""

    def __init__(self, documents: Documents, path: Path) -> None:
        self._documents = documents
        self._path = path

    def break_(self) -> bool:
        """Break both halves; return whether they were one seal, and neither stands any more."""
        left = self._left_in_file()
        was_removed = self._remove()
        try:
            kept = self._documents.get(_DOCUMENT)
            self._documents.put(_DOCUMENT, _BROKEN)
        except StorageError:
            return False
        return was_removed and left is not None and kept == left

    def set(self) -> None:
        """Leave a new one: all is written, and nothing is granted any more.

        Where that is not possible there is none, which the next life takes for a sudden end.
        """
        token = os.urandom(16).hex().encode()
        with suppress(StorageError, OSError):
            self._documents.put(_DOCUMENT, token)
            self._path.write_bytes(token)

    def _left_in_file(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except OSError:
            return None

    def _remove(self) -> bool:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return True
