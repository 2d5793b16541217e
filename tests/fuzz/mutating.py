"""Changes an input in its own terms: a method, a parameter, a step, so that most is still read.

What is put in comes from the examples of docs/rpc-examples.json, one for each method, and from
values that are awkward for somebody: too large, too long, of another type, of another's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fuzz.script import KINDS, USERS

Json = Any
_EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "rpc-examples.json"
#: Under these names a parameter stands for what an answer has brought.
_REFERENCES: Final = {
    "lease": "$lease", "permit": "$permit", "reservation": "$reservation", "token": "$token",
    "session_id": "$session", "subscription": "$subscription", "waiter": "$waiter",
}  # fmt: skip
_AWKWARD: Final[tuple[Json, ...]] = (
    None, True, False, 0, -1, 1, 2, 255, 1 << 31, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, 1 << 64,
    -(1 << 63), 10**30, 0.5, -0.0, 1e-9, 1e308, "", " ", "0", "GPU-", "a" * 600, "é" * 70, "\0",
    "\u2028", "\U0001f600", "..", "a/b", "a:b", "*", "1e3", [], {}, [[]], [0] * 40, {"": None},
    *(f"${kind}" for kind in KINDS),
)  # fmt: skip
_NUMBERS: Final = (0, 1, -1, 2, 1000, 60_000, 86_400_000, 1 << 30, 9 << 30, 1 << 40, 1 << 62)
_STEPS: Final = (
    b"@wait 10", b"@wait 1500", b"@wait 6000", b"@end", b"@close", b"@cut 1", b"@cut 7", b"@cut 0",
)  # fmt: skip
_RAW: Final = (
    b"", b" ", b"[]", b"{}", b"null", b"[1]", b"[[]]", b"nul", b"\xff\xfe", b'{"id":1}',
    b"[" * 1500,
    b'{"a":' * 1200, b'"' * 9, b"{" + b" " * 20_000 + b"}", b'{"jsonrpc":"2.0","id":1e999}',
)  # fmt: skip


def example_requests() -> list[dict[str, Json]]:
    """Return a request for each method, with stand-ins where it needs what an answer brought."""
    exchanges = json.loads(_EXAMPLES.read_text())
    return [_general(each["request"]) for each in exchanges.values() if "request" in each]


def seeds(target: str) -> dict[str, bytes]:
    """Return inputs of a target to begin with, by name."""
    requests = example_requests()
    if target == "framing":
        return {each["method"]: b"\x80\x10" + _dump(each) + b"\n" for each in requests}
    alone = {f"{each['method']}": b"@1 user\n" + _dump(each) + b"\n" for each in requests}
    families: dict[str, list[bytes]] = {}
    for each in requests:
        families.setdefault(each["method"].split(".")[0], []).append(_dump(each))
    whole = {
        f"{family}-{user}": b"\n".join([b"@1 " + user.encode(), *lines, b"@wait 1500", b"@end"])
        for family, lines in families.items()
        for user in USERS
    }
    return alone | whole | _CONVERSATIONS


def _conversation(*lines: str) -> bytes:
    return b"\n".join(
        line.encode()
        if line[0] == "@"
        else b'{"jsonrpc":"2.0","id":%d,"method":%b}' % (number, line.encode())
        for number, line in enumerate(lines)
    )


#: What needs another connection, or time.
_CONVERSATIONS: Final = {
    "lease-over-a-connection": _conversation(
        "@1 user",
        '"lease.acquire","params":{"vram_bytes":1073741824,"mode":"connection"}',
        "@close",
        "@2 user",
        '"lease.resume","params":{"lease":"$lease"}',
        "@wait 6000",
    ),
    "lease-with-a-ttl": _conversation(
        "@1 user",
        '"lease.acquire","params":{"vram_bytes":1073741824,"mode":"ttl","ttl_ms":10000}',
        '"lease.renew","params":{"lease":"$lease"}',
        "@wait 20000",
        '"lease.get","params":{"lease":"$lease"}',
    ),
    "two-who-wait": _conversation(
        "@1 user",
        '"lease.acquire","params":{"vram_bytes":11811160064}',
        "@2 other",
        '"lease.acquire","params":{"vram_bytes":8589934592,"wait_ms":3000,"prefer":["0"]}',
        "@3 user",
        '"lease.acquire","params":{"vram_bytes":75161927680,"wait_ms":3000}',
        '"lease.list"',
        "@1",
        '"lease.release","params":{"lease":"$lease"}',
        "@wait 5000",
    ),
    "a-fill-that-passes-on": _conversation(
        "@1 user",
        '"cache.get","params":{"namespace":"common","key":"k","fill":true}',
        "@2 other",
        '"cache.get","params":{"namespace":"common","key":"k","fill":true,"wait_ms":3000}',
        "@1",
        "@close",
        "@2",
        '"cache.set","params":{"namespace":"common","key":"k","text":"v","token":"$token"}',
        "@3 user",
        '"cache.get","params":{"namespace":"common","key":"k"}',
    ),
    "a-full-cache": _conversation(
        *(
            line
            for number, user in enumerate(("user", "other", "admin"), 1)
            for line in (
                f"@{number} {user}",
                *(
                    f'"cache.set","params":{{"namespace":"n","key":"k{key}","text":"{"x" * 1500}"}}'
                    for key in range(4)
                ),
            )
        )
    ),
    "a-limit-that-is-waited-for": _conversation(
        "@1 user",
        *['"limit.acquire","params":{"name":"openai","tokens":100}'] * 3,
        "@2 other",
        '"limit.acquire","params":{"name":"openai","tokens":100,"wait_ms":3000}',
        "@1",
        '"limit.settle","params":{"reservation":"$reservation","tokens":10}',
        "@wait 5000",
    ),
}


class Mutator:
    """Makes one input out of another, by chance."""

    def __init__(self) -> None:
        self._requests = example_requests()

    def mutate(self, data: bytes, max_size: int, chance: random.Random) -> bytes:
        """Return a changed input of at most `max_size` bytes."""
        lines = data.split(b"\n")
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            at = chance.randrange(len(lines))
            chance.choice(self._ways)(self, lines, at, chance)
            lines = lines or [b""]
        return b"\n".join(lines)[:max_size]

    def _insert_request(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        request = json.loads(_dump(chance.choice(self._requests)))
        lines.insert(at + 1, _dump(request))
        if chance.random() < 0.5:
            self._change(lines, at + 1, chance)

    def _insert_step(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        speak = b"@%d %s" % (chance.randint(1, 4), chance.choice(USERS).encode())
        lines.insert(at, chance.choice((*_STEPS, speak, speak, speak)))

    def _insert_raw(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        lines.insert(at, chance.choice(_RAW))

    def _drop(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        del chance, lines[at]

    def _repeat(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        lines[at:at] = [lines[at]] * chance.choice((1, 1, 2, 8))

    def _move(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        line = lines.pop(at)
        lines.insert(chance.randint(0, len(lines)), line)

    def _change(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        try:
            content = json.loads(lines[at])
        except (ValueError, RecursionError):
            return self._change_bytes(lines, at, chance)
        places = _places(content)
        if not places:
            return None
        holder, key = chance.choice(places)
        way = chance.randrange(6)
        if way == 0 and isinstance(holder, dict):
            del holder[key]
        elif way == 1 and isinstance(holder, dict):
            other = chance.choice(self._requests)
            holder |= chance.choice((other.get("params", {}), {"id": 1}, {"meta": _meta(chance)}))
        elif way == 2 and isinstance(holder[key], int | float):
            holder[key] = chance.choice((*_NUMBERS, holder[key] + 1, -holder[key]))
        elif way == 3:
            donor_holder, donor_key = chance.choice(_places(chance.choice(self._requests)))
            holder[key] = donor_holder[donor_key]
        else:
            holder[key] = chance.choice(_AWKWARD)
        lines[at] = _dump(content)
        return None

    def _change_bytes(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        line = bytearray(lines[at])
        where = chance.randint(0, len(line))
        if chance.random() < 0.5:
            del line[where : where + chance.randint(1, 4)]
        else:
            line[where:where] = bytes(chance.choices(b'\x00\x09",:[]{}\\u01e-.\x7f\x80\xff', k=2))
        lines[at] = bytes(line)

    def _batch(self, lines: list[bytes], at: int, chance: random.Random) -> None:
        taken = [line for line in lines[at : at + chance.randint(1, 5)] if line[:1] == b"{"]
        if taken:
            lines[at : at + len(taken)] = [b"[" + b",".join(taken) + b"]"]

    _ways: Final[tuple[Callable[..., None], ...]] = (
        _change, _change, _change, _change, _insert_request, _insert_request, _insert_step,
        _insert_raw, _drop, _repeat, _move, _batch, _change_bytes,
    )  # fmt: skip


def _general(request: dict[str, Json]) -> dict[str, Json]:
    params = request.get("params", {})
    for name, reference in _REFERENCES.items():
        if name in params:
            params[name] = reference
    # Pids of another host.
    for name in ("holder_pid", "pid"):
        if name in params:
            params[name] = 300
    return request


def _meta(chance: random.Random) -> Json:
    return {
        "correlation_id": chance.choice(("job-17", "a b", "x" * 80, "")),
        "deadline_ms": chance.choice((0, 1, 500, 10**15)),
        "idempotency_key": chance.choice(("key", "other")),
        "session_id": "$session",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }


def _places(content: Json) -> list[tuple[Json, Json]]:
    """Return every place in it: what holds it, and its key there."""
    found: list[tuple[Json, Json]] = []
    left = [content]
    while left:
        holder = left.pop()
        items = (
            holder.items()
            if isinstance(holder, dict)
            else enumerate(holder)
            if isinstance(holder, list)
            else ()
        )
        for key, value in items:
            found.append((holder, key))
            left.append(value)
    return found


def _dump(content: Json) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
