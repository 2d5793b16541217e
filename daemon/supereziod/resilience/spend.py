"""Money that was spent, as it is committed: before anybody hears of the grant.

One row for each scope and kind of window. Amounts are millionths of the currency. What cannot be
read any more counts as spent to the cap in the windows that were then: an admin can say otherwise.

What a request used beyond its reservation was spent whether or not it can be written: it is owed,
and left in the stopgap each second, so that a restart before the disk has room forgets none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from superezio.resilience.rate_limiter import Scope
from superezio.resilience.spend_cap import SpendCap, Window
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, StorageError

#: What SQLite's integers hold, and far from it.
_MOST: Final = 1 << 62
_DAY: Final = timedelta(days=1)
#: SQLite takes so many values, and many more, in one statement.
_ROWS_AT_ONCE: Final = 1000
#: No limit has this name.
_LOST: Final = ""
#: No kind of window: the mark of a limit of which nothing is lost.
_FOUND: Final = "found"
_DOCUMENT: Final = "spend"

Row = tuple[str, Scope, str, Window]


class _Debts(Struct, frozen=True, kw_only=True):
    """What is left in the stopgap: rows that were not written, in one currency."""

    currency: str
    rows: list[Row]


class Calendar:
    """The windows that are now, in UTC: never earlier ones than before, if the clock goes back."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._next_day_s = 0.0
        self._keys = {"day": "", "month": ""}

    def keys(self) -> dict[str, str]:
        """Return the key of the window that is now, by kind."""
        now_s = self._wall()
        if now_s >= self._next_day_s:
            today = datetime.fromtimestamp(now_s, UTC)
            midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
            self._next_day_s = (midnight + _DAY).timestamp()
            self._keys = {"day": f"{today:%Y-%m-%d}", "month": f"{today:%Y-%m}"}
        return self._keys

    def left_ms(self, kind: str, key: str) -> int:
        """Return how long the window `key` lasts from now: 1 at least."""
        begin = datetime.fromisoformat(key if kind == "day" else f"{key}-01").replace(tzinfo=UTC)
        # Of a month: into the next one, then back to its first day.
        end = begin + _DAY if kind == "day" else (begin + 31 * _DAY).replace(day=1)
        return max(1, round((end.timestamp() - self._wall()) * 1000))


class SpendBook:
    """What each scope of each limit has spent. `lost` where there may have been more."""

    SCHEMA = (
        "CREATE TABLE IF NOT EXISTS spend (name TEXT NOT NULL, scope TEXT NOT NULL,"
        " scope_name TEXT NOT NULL, kind TEXT NOT NULL, currency TEXT NOT NULL,"
        " key TEXT NOT NULL, micros INTEGER NOT NULL,"
        " PRIMARY KEY (name, scope, scope_name, kind, currency)) WITHOUT ROWID"
    )

    def __init__(
        self,
        database: Database,
        calendar: Calendar,
        *,
        currency: str,
        lost: bool = False,
        stopgap: Stopgap | None = None,
    ) -> None:
        self._database = database
        self._stopgap = stopgap
        self.calendar = calendar
        self._currency = currency
        self._kept: dict[str, dict[Scope, dict[str, Window]]] = {}
        self._owed: dict[tuple[str, Scope, str], Window] = {}
        #: Whether something is owed that is not left in the stopgap.
        self._is_new = False
        #: Limits of which an admin has said that nothing was lost.
        self._found: set[str] = set()
        self._load()
        self._load_debts()
        if lost:
            lost_keys = calendar.keys().items()
            self.owe((_LOST, Scope("host"), kind, Window(key, 0)) for kind, key in lost_keys)
            self._kept[_LOST] = {
                Scope("host"): {kind: Window(key, 0) for kind, key in lost_keys},
            }

    def scopes(self, name: str) -> list[Scope]:
        """Return those that have spent of the limit `name`."""
        return list(self._kept.get(name, ()))

    def cap(self, name: str, scope: Scope, caps_micros: dict[str, int]) -> SpendCap:
        """Return the cap of a scope, with what it has spent already."""
        spent = self._kept.get(name, {}).pop(scope, None)
        if spent is None and name not in self._found:
            lost = self._kept.get(_LOST, {}).get(Scope("host"), {})
            spent = {
                kind: Window(window.key, caps_micros[kind])
                for kind, window in lost.items()
                if kind in caps_micros
            }
        return SpendCap(caps_micros, spent)

    def forgive(self, name: str) -> None:
        """Take it that nothing of the limit `name` was lost."""
        self._found.add(name)
        self._kept.pop(name, None)
        self.owe([(name, Scope("host"), _FOUND, Window(self.calendar.keys()["month"], 0))])

    def write(self, rows: Iterable[Row]) -> None:
        """Commit what was spent, all of it or nothing. Raises StorageError."""
        changed = {(name, scope, kind): window for name, scope, kind, window in rows}
        owed = list((self._owed | changed).items())
        for begin in range(0, len(owed), _ROWS_AT_ONCE):
            values: list[object] = []
            part = owed[begin : begin + _ROWS_AT_ONCE]
            for (name, scope, kind), window in part:
                micros = min(window.spent_micros, _MOST)
                values += (name, scope.kind, scope.name, kind, self._currency, window.key, micros)
            self._database.execute(_statement(len(part)), tuple(values))
        self._owed.clear()
        if self._stopgap is not None:
            self._stopgap.drop(_DOCUMENT)

    def owe(self, rows: Iterable[Row]) -> None:
        """Commit what was spent already; where that fails, with the next that is committed.

        Nobody is granted anything for it: a power cut before the next grant may undo it.
        """
        for name, scope, kind, window in rows:
            self._owed[name, scope, kind] = window
            self._is_new = True
        try:
            self.write(())
        except StorageError:
            return

    def settle_debts(self) -> None:
        """Write what is owed, if it can be; else leave it for the next life of the daemon."""
        if self._owed:
            self.owe(())
        if self._owed and self._is_new and self._stopgap is not None:
            rows = [(*key, window) for key, window in self._owed.items()]
            debts = msgspec.json.encode(_Debts(currency=self._currency, rows=rows))
            self._stopgap.put(_DOCUMENT, debts)
            self._is_new = self._stopgap.get(_DOCUMENT) != debts

    def forget_old(self) -> None:
        """Delete the rows of windows that are over."""
        keys = self.calendar.keys()
        try:
            for kind, key in (*keys.items(), (_FOUND, keys["month"])):
                self._database.execute("DELETE FROM spend WHERE kind = ? AND key < ?", (kind, key))
        except StorageError:
            return

    def _load(self) -> None:
        rows = self._database.rows(
            "SELECT name, scope, scope_name, kind, key, micros FROM spend WHERE currency = ?",
            (self._currency,),
        )
        for name, kind_of_scope, scope_name, kind, key, micros in rows:
            if kind == _FOUND:
                self._found.add(str(name))
                continue
            scope = Scope(kind_of_scope, str(scope_name))  # type: ignore[arg-type]
            windows = self._kept.setdefault(str(name), {}).setdefault(scope, {})
            windows[str(kind)] = Window(str(key), int(micros))  # type: ignore[call-overload]

    def _load_debts(self) -> None:
        body = None if self._stopgap is None else self._stopgap.get(_DOCUMENT)
        if body is None:
            return
        try:
            debts = msgspec.json.decode(body, type=_Debts)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            structlog.get_logger().warning("limit.debts_unreadable", error=str(error))
            return
        if debts.currency != self._currency:
            return
        for name, scope, kind, window in debts.rows:
            self._owed[name, scope, kind] = window
            if kind == _FOUND:
                self._found.add(name)
                self._kept.pop(name, None)
            else:
                self._kept.setdefault(name, {}).setdefault(scope, {})[kind] = window


def _statement(rows: int) -> str:
    marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows)
    return (
        f"INSERT INTO spend VALUES {marks}"  # noqa: S608 - nothing but marks
        " ON CONFLICT (name, scope, scope_name, kind, currency)"
        " DO UPDATE SET key = excluded.key, micros = excluded.micros"
    )
