"""A file that others read at any time: they find all of the old text or all of the new."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress


def replace(path: str, text: str) -> None:
    """Give the file at `path` another text, with mode 0644. Raises OSError; it stays as it was.

    What is being written has a name of its own beside it, which begins with a dot and ends in no
    suffix that a reader of the folder looks for.
    """
    folder, name = os.path.split(path)
    fd, beside = tempfile.mkstemp(prefix=f".{name}.", dir=folder or ".")
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(beside, path)  # noqa: PTH105 - pathlib takes long to import
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)  # noqa: PTH108 - as above
        raise
