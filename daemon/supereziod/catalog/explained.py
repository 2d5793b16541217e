"""One explanation of a line in the journal."""

from __future__ import annotations

from typing import NamedTuple


class Explained(NamedTuple):
    """What a line says to somebody who was woken by it.

    `@FIELD@` in it is that field of the very line, and has to be on every line of its kind. All
    else is plain text; `commands` are what to run, as root unless they say otherwise.
    """

    subject: str
    #: What happened, and what follows from it.
    meaning: str
    #: What to do.
    action: str
    commands: tuple[str, ...]
