"""JSON-RPC 2.0: every example of section 7 of the specification, and the rules around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from unit.rpc.serving import Client, example_methods, serving

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path, example_methods()) as served:
        yield await served.client()


def plain(answer: Any) -> Any:
    """Return an answer with of an error its code alone: messages are ours to choose."""
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    if "error" in answer:
        return {**answer, "error": answer["error"]["code"]}
    return answer


async def nothing_is_answered(client: Client) -> bool:
    """Tell whether the next answer is that to the next request."""
    return bool((await client.call("get_data", id="next"))["id"] == "next")


# --- section 7 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "result"),
    [
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', 19),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 1}', -19),
        (
            (
                '{"jsonrpc": "2.0", "method": "subtract",'
                ' "params": {"subtrahend": 23, "minuend": 42}, "id": 1}'
            ),
            19,
        ),
        (
            (
                '{"jsonrpc": "2.0", "method": "subtract",'
                ' "params": {"minuend": 42, "subtrahend": 23}, "id": 1}'
            ),
            19,
        ),
    ],
)
async def test_parameters_by_position_and_by_name(
    client: Client, request_line: str, result: int
) -> None:
    assert await client.ask(request_line) == {"jsonrpc": "2.0", "result": result, "id": 1}


@pytest.mark.parametrize(
    "request_line",
    [
        '{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}',
        '{"jsonrpc": "2.0", "method": "foobar"}',
    ],
)
async def test_notifications_are_not_answered(client: Client, request_line: str) -> None:
    await client.send(request_line)
    assert await nothing_is_answered(client)


@pytest.mark.parametrize(
    ("request_line", "code", "answered_id"),
    [
        ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', METHOD_NOT_FOUND, "1"),
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR, None),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID_REQUEST, None),
        ("[]", INVALID_REQUEST, None),
    ],
)
async def test_calls_that_are_refused(
    client: Client, request_line: str, code: int, answered_id: str | None
) -> None:
    answer = plain(await client.ask(request_line))
    assert answer == {"jsonrpc": "2.0", "error": code, "id": answered_id}


async def test_a_batch_that_is_not_json_is_one_parse_error(client: Client) -> None:
    answer = await client.ask(
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        ' {"jsonrpc": "2.0", "method"]'
    )
    assert plain(answer) == {"jsonrpc": "2.0", "error": PARSE_ERROR, "id": None}


@pytest.mark.parametrize(("batch", "members"), [("[1]", 1), ("[1,2,3]", 3)])
async def test_an_invalid_batch_is_answered_member_by_member(
    client: Client, batch: str, members: int
) -> None:
    invalid = {"jsonrpc": "2.0", "error": INVALID_REQUEST, "id": None}
    assert plain(await client.ask(batch)) == [invalid] * members


async def test_a_batch_of_everything(client: Client) -> None:
    answers = await client.ask(
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},'
        '{"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]'
    )
    assert sorted(plain(answers), key=str) == sorted(
        [
            {"jsonrpc": "2.0", "result": 7, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            {"jsonrpc": "2.0", "error": INVALID_REQUEST, "id": None},
            {"jsonrpc": "2.0", "error": METHOD_NOT_FOUND, "id": "5"},
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
        key=str,
    )


async def test_a_batch_of_notifications_is_not_answered(client: Client) -> None:
    await client.send(
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        ' {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]'
    )
    assert await nothing_is_answered(client)


# --- the rules around them ----------------------------------------------------------------------


@pytest.mark.parametrize("request_id", [0, -1, 2**63, 2**80, 1.5, "", "é☃", "1", None])
async def test_any_string_number_or_null_is_an_id(client: Client, request_id: object) -> None:
    assert (await client.call("get_data", id=request_id))["id"] == request_id


@pytest.mark.parametrize("request_id", [True, [1], {"a": 1}])
async def test_other_ids_are_invalid(client: Client, request_id: object) -> None:
    answer = await client.call("get_data", id=request_id)
    assert plain(answer) == {"jsonrpc": "2.0", "error": INVALID_REQUEST, "id": None}


@pytest.mark.parametrize(
    "request_line",
    [
        '{"method": "get_data", "id": 7}',
        '{"jsonrpc": "1.0", "method": "get_data", "id": 7}',
        '{"jsonrpc": 2.0, "method": "get_data", "id": 7}',
        '{"jsonrpc": "2.0", "id": 7}',
        '{"jsonrpc": "2.0", "method": "get_data", "params": null, "id": 7}',
        '{"jsonrpc": "2.0", "method": "get_data", "meta": 1, "id": 7}',
        '{"jsonrpc": "2.0", "method": "get_data", "meta": {"deadline_ms": "x"}, "id": 7}',
    ],
)
async def test_an_invalid_request_keeps_its_id(client: Client, request_line: str) -> None:
    answer = await client.ask(request_line)
    assert plain(answer) == {"jsonrpc": "2.0", "error": INVALID_REQUEST, "id": 7}
    assert answer["error"]["data"]["kind"] == "invalid_request"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"minuend": 1}, "subtrahend"),
        ({"minuend": 1, "subtrahend": 2, "extra": 3}, "extra"),
        ({"minuend": "x", "subtrahend": 2}, "minuend"),
        ([1], "subtrahend"),
        ([1, 2, 3], "3 given by position, there are 2"),
        (["x", 2], "minuend"),
    ],
)
async def test_params_that_do_not_fit_are_refused_by_name(
    client: Client, params: object, named: str
) -> None:
    answer = await client.call("subtract", params)
    assert answer["error"]["code"] == INVALID_PARAMS
    assert named in answer["error"]["message"]


async def test_a_notification_with_params_that_do_not_fit_is_not_answered(client: Client) -> None:
    await client.send('{"jsonrpc": "2.0", "method": "subtract", "params": [1]}')
    assert await nothing_is_answered(client)


@pytest.mark.parametrize(
    "line",
    [b'"\xff"', b"[" * 100_000, b'{"a":', b"\x00", b"nonsense", b'{"id":1,"jsonrpc":"\xc3("}'],
)
async def test_a_line_that_cannot_be_read_is_a_parse_error_and_the_next_is_served(
    client: Client, line: bytes
) -> None:
    await client.send_raw(line + b"\n")
    assert plain(await client.receive()) == {"jsonrpc": "2.0", "error": PARSE_ERROR, "id": None}
    assert await nothing_is_answered(client)


async def test_blank_lines_are_nothing(client: Client) -> None:
    await client.send_raw(b"\n\r\n  \n")
    assert await nothing_is_answered(client)


async def test_good_lines_around_a_bad_one_are_answered_in_order(client: Client) -> None:
    good = '{"jsonrpc": "2.0", "method": "subtract", "params": [3, %d], "id": %d}'
    await client.send(good % (1, 1), "{", good % (2, 2))
    answers = [plain(await client.receive()) for _ in range(3)]
    assert [each["id"] for each in answers] == [1, None, 2]


async def test_members_that_are_not_known_are_ignored(client: Client) -> None:
    answer = await client.call("subtract", [3, 1], extension={"x": 1}, meta={"future": True})
    assert answer["result"] == 2
