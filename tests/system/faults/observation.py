"""What the observer's log says of a fault: what was lost, and how long the daemon was away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

from msgspec import Struct

_CHANNELS = ("kept", "fresh")


class Refusal(Struct, frozen=True, order=True):
    """What the holder of a lease was refused, of its own: `what`, and the error's kind."""

    lease: str
    what: str
    kind: str


class Observation(Struct, frozen=True):
    """Read from the log alone.

    `lost` has leases that stood before and do not after, and grants that were told and are gone;
    `leaked` leases that nobody was told of; `missing` what never had an answer; `wrong` what was
    answered as it must not be, each once.
    """

    standing: int
    grants: int
    answers: dict[str, int]
    lost: tuple[str, ...]
    leaked: tuple[str, ...]
    missing: tuple[str, ...]
    wrong: tuple[Refusal, ...]
    away_s: float
    pids: tuple[int, ...]

    @property
    def loss(self) -> str:
        """What was lost, for the table."""
        found = {
            "leases": len(self.lost),
            "leaked": len(self.leaked),
            "answers": len(self.missing),
            "wrong": len(self.wrong),
        }
        return (
            ", ".join(f"{number} {what}" for what, number in found.items() if number) or "nothing"
        )


def observation(lines: Iterable[str]) -> Observation:
    """Judge a log that is complete."""
    entries = [json.loads(line) for line in lines]

    def all_of(what: str) -> list[list[object]]:
        return [entry[1:] for entry in entries if entry[0] == what]

    standing = {str(lease) for _, _, lease in all_of("standing")}
    granted = {str(lease) for _, lease in all_of("granted")}
    wrong = {
        Refusal(str(lease), what, str(kind))
        for what in ("not_released", "not_renewed", "not_resumed")
        for _, lease, kind in all_of(what)
    }
    given_back = {str(lease) for _, lease in all_of("releasing")}
    given_back -= {each.lease for each in wrong}
    listed = {str(lease) for _, leases in all_of("listed") for lease in _texts(leases)}
    missing = [str(name) for _, name in all_of("missing")]
    if not all_of("ended"):
        missing.append("the end")
    answered = [(str(channel), _seconds(at)) for at, channel, *_ in all_of("pinged")]
    times = {name: [at for channel, at in answered if channel == name] for name in _CHANNELS}
    gaps = [later - earlier for at in times.values() for earlier, later in pairwise(at)]
    return Observation(
        standing=len(standing),
        grants=len(granted),
        answers={name: len(at) for name, at in times.items()},
        lost=tuple(sorted((standing | granted) - given_back - listed)),
        leaked=tuple(sorted(listed - standing - granted)),
        missing=tuple(missing),
        wrong=tuple(sorted(wrong)),
        away_s=max(gaps, default=0.0),
        pids=tuple(dict.fromkeys(int(str(pid)) for _, _, _, pid in all_of("pinged"))),
    )


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _seconds(value: object) -> float:
    return float(str(value))
