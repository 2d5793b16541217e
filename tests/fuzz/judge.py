"""What has to come back for what was sent, by JSON-RPC 2.0 and docs/rpc.md, not by the code.

It reads with the standard library's parser, which is another than the daemon's. Of a line that two
parsers may take differently (a key twice, half a surrogate, a number beyond all, nesting without
end, bytes that are no text where nobody reads them) it asks no more than that there is not more
than one answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from math import isinf
from typing import Any, Final, NoReturn

from msgspec import Struct

_ODD: Final = object()


class WrongError(AssertionError):
    """The daemon is at fault."""


class Expected(Struct):
    """Answers to what went over one connection, by their id; `no_id`: so many with the id null."""

    ids: Counter[str]
    no_id: int = 0
    #: So many more there may be.
    odd: int = 0
    batches: list[Expected] = []

    @property
    def least(self) -> int:
        """How many lines there have to be."""
        return self.ids.total() + self.no_id + len(self.batches)


def expected(lines: Iterable[bytes], *, frame_bytes: int, batch: int) -> Expected:
    """Return what has to be answered to these lines."""
    found = Expected(Counter())
    for line in lines:
        if len(line) > frame_bytes:
            found.no_id += 1
        elif line.strip(b" \t\r\n\v\f"):
            _expect_line(line, found, batch)
    return found


def _expect_line(line: bytes, found: Expected, batch: int) -> None:
    try:
        content = _read(line)
    except RecursionError:
        content = _ODD
    except ValueError:
        if _is_almost_json(line):
            found.odd += 1
        else:
            found.no_id += 1
        return
    if content is _ODD:
        found.odd += 1
    elif not isinstance(content, list) or not content or len(content) > batch:
        _expect(content, found)
    else:
        members = Expected(Counter())
        for each in content:
            _expect(each, members)
        if members.odd or not members.least:
            found.odd += bool(members.odd)
        else:
            found.batches.append(members)


def _expect(content: Any, found: Expected) -> None:
    if not isinstance(content, dict):
        found.no_id += 1
        return
    request_id = content.get("id", _ODD)
    is_call = (
        content.get("jsonrpc") == "2.0"
        and isinstance(content.get("method"), str)
        and isinstance(content.get("params", {}), dict | list)
    )
    if request_id is _ODD:
        # Whether its meta can be read decides if it is a notification.
        if not is_call or content.get("meta") is not None:
            found.odd += 1
    elif isinstance(request_id, bool) or not isinstance(request_id, int | float | str):
        found.no_id += 1  # of another type, or null itself
    else:
        found.ids[_key(request_id)] += 1


def judge(wanted: Expected, lines: Iterable[bytes], *, complete: bool) -> list[dict[str, Any]]:
    """Compare with the lines that came; return all answers. `complete`: all have to be there.

    Raises WrongError.
    """
    answers, batches = [], []
    for line in lines:
        message = _strict(line)
        if isinstance(message, list):
            batches.append(message)
        elif "method" not in message:
            answers.append(message)
    _compare(wanted, answers, complete=complete)
    _compare_batches(wanted, batches, complete=complete)
    return answers + [each for batch in batches for each in batch]


def _compare(wanted: Expected, answers: list[dict[str, Any]], *, complete: bool) -> None:
    for answer in answers:
        _check_answer(answer)
    ids = Counter(_key(answer["id"]) for answer in answers if answer["id"] is not None)
    too_many = ids - wanted.ids
    spare = wanted.odd
    if too_many.total() > spare:
        raise WrongError(f"answered without being asked, or twice: {dict(too_many)}")
    unnamed = len(answers) - ids.total()
    if unnamed > wanted.no_id + spare:
        raise WrongError(f"{unnamed} answers with the id null, {wanted.no_id} were to come")
    least = wanted.ids.total() + wanted.no_id
    if len(answers) > least + spare:
        raise WrongError(f"{len(answers)} answers where {least} were to come, at most +{spare}")
    if complete and len(answers) < least:
        missing = wanted.ids - Counter(_key(answer["id"]) for answer in answers)
        raise WrongError(f"{least - len(answers)} unanswered, of {dict(missing)}")


def _compare_batches(wanted: Expected, found: list[list[Any]], *, complete: bool) -> None:
    if len(found) > len(wanted.batches) + wanted.odd:
        raise WrongError(f"{len(found)} batches were answered, of {len(wanted.batches)}")
    if complete and len(found) < len(wanted.batches):
        raise WrongError(f"{len(wanted.batches) - len(found)} batches are not answered")
    if wanted.odd:
        return
    left = [(each.least, each) for each in wanted.batches]
    for batch in found:
        for each in left:
            try:
                _compare(each[1], batch, complete=True)
            except WrongError:
                continue
            left.remove(each)
            break
        else:
            raise WrongError(f"no batch has such an answer: {json.dumps(batch)[:2000]}")


def _check_answer(answer: dict[str, Any]) -> None:
    if answer.get("jsonrpc") != "2.0" or "id" not in answer:
        raise WrongError(f"no JSON-RPC answer: {answer}")
    if ("result" in answer) == ("error" in answer):
        raise WrongError(f"neither a result nor an error, or both: {answer}")
    error = answer.get("error")
    if error is None:
        return
    kind = error.get("data", {}).get("kind")
    if not isinstance(error.get("code"), int) or not error.get("message") or not kind:
        raise WrongError(f"an error that says too little: {error}")
    if kind == "internal_error":
        raise WrongError(f"the daemon failed: {error}")


def _read(line: bytes) -> Any:
    odd = False

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal odd
        content = dict(found)
        odd = odd or len(content) < len(found)
        return content

    def number(digits: str) -> float:
        nonlocal odd
        odd = odd or isinf(float(digits))
        return float(digits)

    text = line.decode()
    content = json.loads(
        text,
        object_pairs_hook=pairs,
        parse_float=number,
        parse_int=number,
        parse_constant=_refuse,
    )
    return _ODD if odd or _has_half_surrogate(text) else content


def _is_almost_json(line: bytes) -> bool:
    """Tell whether only the text of a string is at fault: of a member that nobody reads, it counts
    for nothing."""
    try:
        json.loads(line.decode(errors="replace"), strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _has_half_surrogate(text: str) -> bool:
    # Coarse, and enough: whoever escapes a surrogate is odd.
    return "\\ud" in text or "\\uD" in text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _strict(line: bytes) -> Any:
    try:
        return json.loads(line.decode(), parse_constant=_refuse)
    except ValueError as error:
        raise WrongError(f"a line that is no JSON: {line[:2000]!r}") from error


def _key(request_id: object) -> str:
    if isinstance(request_id, int | float) and not isinstance(request_id, bool):
        return repr(float(request_id))
    return json.dumps(request_id)
