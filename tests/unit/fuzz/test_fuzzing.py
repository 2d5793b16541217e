"""Fuzzing without its engine: what it has found is replayed, and its judges see what is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz.conversation import play
from fuzz.faults import FAULTS, SOURCES
from fuzz.framing import frame
from fuzz.judge import WrongError, expected, judge
from fuzz.keeping import worth_keeping
from fuzz.mutating import Mutator, seeds
from fuzz.script import Cut, End, Send, Speak, Wait, fill_in, parse
from fuzz.targets import TARGETS
from superezio.framing import LineFramer
from supereziod.resilience.breakers import Breakers
from supereziod.rpc.answering import Answering
from supereziod.rpc.batches import BatchReply
from supereziod.rpc.methods import METHODS

FUZZ = Path(__file__).parents[2] / "fuzz"
_PING = '{"jsonrpc":"2.0","id":%s,"method":"system.ping"}'


def answer(request_id: object, **members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, **(members or {"result": 1})}).encode()


def compare(sent: str, *came: bytes, complete: bool = True) -> None:
    wanted = expected(sent.encode().split(b"\n"), frame_bytes=1000, batch=3)
    judge(wanted, came, complete=complete)


# --- what was found -------------------------------------------------------------------------------


def replay(target: str, files: list[Path]) -> None:
    """Play each input. What is raised says which one it was."""
    for file in files:
        try:
            TARGETS[target](file.read_bytes())
        except BaseException as error:
            error.add_note(f"the input is {file}")
            raise


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_once_failed_is_answered_as_it_must_be(target: str) -> None:
    replay(target, sorted((FUZZ / "crashes").glob(f"{target}-*")))


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_kept_inputs_are_answered_as_they_must_be(target: str) -> None:
    files = sorted((FUZZ / "corpus" / target).iterdir())
    assert files
    replay(target, files)


def test_the_kept_inputs_are_few_enough_to_be_kept() -> None:
    files = [path for path in (FUZZ / "corpus").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_an_input_is_kept_that_reaches_what_shorter_ones_do_not(tmp_path: Path) -> None:
    ping, listed = f"@1 user\n{_PING % 1}".encode(), seeds("requests")["lease.list"]
    inputs = {"longer": ping + b"\n@wait 10", "short": ping, "listed": listed, "long": b"x" * 5000}
    for name, data in inputs.items():
        (tmp_path / name).write_bytes(data)
    kept = [file.name for file in worth_keeping(tmp_path.iterdir(), TARGETS["requests"])]
    assert kept == ["short", "listed"]


# --- what is sent ---------------------------------------------------------------------------------


def test_every_method_is_asked_to_begin_with() -> None:
    assert {each.name for each in METHODS} <= seeds("requests").keys()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_all_there_is_to_begin_with_is_answered_as_it_must_be(target: str) -> None:
    for data in seeds(target).values():
        TARGETS[target](data)


def test_an_input_is_steps_and_all_else_is_sent() -> None:
    text = b"@2 other\n{}\n@cut 7\n@wait 99999\n@end\n@close\n@close now\n\xff"
    assert parse(text) == [
        Speak(2, "other"),
        Send(b"{}"),
        Cut(7),
        Wait(20_000),
        End("end"),
        End("close"),
        Send(b"@close now"),
        Send(b"\xff"),
    ]


def test_a_request_can_name_what_an_answer_has_brought() -> None:
    text = b'{"lease":"$lease","permit":"$permit","token":"$token"}'
    known = {"lease": '"abc"', "permit": "17"}
    assert fill_in(text, known) == b'{"lease":"abc","permit":17,"token":"$token"}'


def test_most_of_what_a_change_makes_is_still_a_request() -> None:
    mutator, chance = Mutator(), random.Random(1)
    lines = 0
    readable = 0
    for data in seeds("requests").values():
        changed = mutator.mutate(data, 6000, chance)
        assert len(changed) <= 6000
        for line in changed.split(b"\n"):
            lines += 1
            readable += b'"jsonrpc":"2.0"' in line and _is_json(line)
    assert readable > lines * 0.5


def test_anything_can_be_changed() -> None:
    mutator, chance = Mutator(), random.Random(2)
    for _ in range(300):
        data = chance.randbytes(chance.randint(0, 60))
        for _ in range(5):
            data = mutator.mutate(data, 500, chance)


# --- that it can fail -----------------------------------------------------------------------------


def test_every_seeded_fault_has_its_place() -> None:
    for name, fault in FAULTS.items():
        assert (SOURCES / fault.path).read_text().count(fault.old) == 1, name


@pytest.mark.parametrize(
    ("sent", "came", "why"),
    [
        (_PING % 1, [], "unanswered"),
        (_PING % 1, [answer(1), answer(1)], "twice"),
        (_PING % 1, [answer(2)], "without being asked"),
        (_PING % 1, [answer(1, result=1, error={})], "or both"),
        (_PING % 1, [b'{"jsonrpc":"2.0","id":1,"result":NaN}'], "no JSON"),
        (_PING % 1, [b"{"], "no JSON"),
        (
            _PING % 1,
            [answer(1, error={"code": 1, "message": "m", "data": {"kind": "internal_error"}})],
            "the daemon failed",
        ),
        (_PING % 1, [answer(1, error={"code": 1, "message": "m"})], "too little"),
        ('{"jsonrpc":"2.0","method":"system.ping"}', [answer(None)], "with the id null"),
        ("nonsense", [], "unanswered"),
        (_PING % 1, [answer(None)], "with the id null"),
        ("[" + _PING % 1 + "]", [], "not answered"),
        ("[" + _PING % 1 + "]", [b"[]"], "no batch has such an answer"),
        ("x" * 1001, [], "unanswered"),
    ],
)
def test_the_judge_sees(sent: str, came: list[bytes], why: str) -> None:
    with pytest.raises(WrongError, match=why):
        compare(sent, *came)


def test_the_judge_accepts_answers_in_any_order_and_none_to_what_is_no_request() -> None:
    notified = '{"jsonrpc":"2.0","method":"system.ping"}'
    sent = [_PING % 1, "", _PING % '"a"', notified, f"[{_PING % 3},{notified}]", "nonsense", "[]"]
    batch = b"[" + answer(3) + b"]"
    compare("\n".join(sent), batch, answer("a"), answer(None), answer(None), answer(1.0))
    compare(_PING % 1, complete=False)
    compare(_PING % "null", answer(None))


def test_a_line_that_is_kept_without_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: LineFramer, tail: bytes, lines: list[bytes | None]) -> None:
        del lines
        self._carry += tail

    monkeypatch.setattr(LineFramer, "_keep", keep)
    with pytest.raises(WrongError, match="bytes are kept"):
        frame(b"\0\0" + b"x" * 20)


def test_a_permit_that_does_not_come_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breakers, "connection_closed", lambda _self, _connection: None)
    with pytest.raises(WrongError, match="1 permits of the breaker openai/gpt"):
        play(seeds("requests")["breaker.acquire"])


def test_an_answer_that_is_not_sent_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchReply, "close", lambda _self, _lines: None)
    with pytest.raises(WrongError, match="not answered"):
        play(f"@1 user\n[{_PING % 1}]".encode())


def test_an_exception_in_a_handler_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Answering, "check_role", fail)
    with pytest.raises(WrongError, match="the daemon failed"):
        play(seeds("requests")["gpu.list"])


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
