"""What holders have started, kept on disk: after a restart an orphan is still its holder's."""

from __future__ import annotations

from superezio.errors import StateNotWritableError
from supereziod.leases.book import LeaseBook


class Kinship:
    """Commits with each lease which descendants are known, when that changes.

    What is found is committed in the same step, so that a kill -9 loses no more than what was
    started, and left by its parent, since the last search of /proc or the last pass: nobody had
    seen that yet. What cannot be committed is tried again with the next pass.
    """

    def __init__(self, *, book: LeaseBook) -> None:
        self._book = book
        self._owed: set[str] = set()

    def record(self) -> None:
        """Commit what has changed. Cheap where nothing has."""
        holders = self._book.holders
        self._owed |= holders.descent.changed_kin()
        for lease_id in tuple(self._owed):
            lease = self._book.find(lease_id)
            kin = holders.kin_of(lease_id) if lease is not None else ()
            if lease is not None and kin != lease.record.kin:
                try:
                    self._book.amend(lease, "cannot record what its processes started", kin=kin)
                except StateNotWritableError:
                    return
            self._owed.discard(lease_id)
