from __future__ import annotations

from typing import Any

import pytest

from fake_daemon import FakeDaemon
from superezio import AsyncClient, Client, wire
from superezio.errors import BreakerOpenError, NotFoundError, RateLimitedError

ORDER = ["cache.get", "limit.acquire", "breaker.acquire", "breaker.settle", "limit.settle"]


def methods(daemon: FakeDaemon) -> list[str]:
    return [request["method"] for request in daemon.requests]


def double(number: int) -> int:
    return 2 * number


async def double_async(number: int) -> int:
    return 2 * number


def failing(number: int) -> int:
    raise OSError(number)


def test_the_limit_comes_before_the_breaker_and_is_settled_after_it(
    client: Client, daemon: FakeDaemon
) -> None:
    with client.guard("openai", tokens=900) as call:
        call.settle(tokens=412)
    assert methods(daemon) == ORDER[1:]
    assert daemon.params_of("limit.acquire")["tokens"] == 900
    assert daemon.params_of("limit.settle")["tokens"] == 412
    assert daemon.params_of("breaker.settle")["outcome"] == "success"
    assert daemon.connections == 1


def test_a_function_with_a_cache_is_looked_up_first_and_stored_last(
    client: Client, daemon: FakeDaemon
) -> None:
    used: list[int] = []

    def tell(result: int) -> dict[str, int]:
        used.append(result)
        return {"tokens": result}

    guarded = client.guard("openai", tokens=900, ttl=60, used=tell)(double)
    assert guarded(4) == 8
    assert methods(daemon) == [*ORDER, "cache.set"]
    assert daemon.params_of("cache.get")["namespace"] == "openai"
    assert daemon.params_of("cache.get")["key"] == f"{__name__}.double(number=4)"
    assert (daemon.params_of("cache.set")["text"], used) == ("8", [8])
    assert daemon.params_of("limit.settle")["tokens"] == 8


async def test_a_function_whose_arguments_make_no_key_is_told_the_option_of_the_guard(
    client: Client, aclient: AsyncClient
) -> None:
    with pytest.raises(TypeError, match=r"number has an object.* cache_key=lambda"):
        client.guard("openai", ttl=60)(double)(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"number has an object.* cache_key=lambda"):
        await aclient.guard("openai", ttl=60)(double_async)(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"variables around it.* cache_key=lambda"):
        client.guard("openai", ttl=60)(lambda: 1)
    with pytest.raises(TypeError, match=r"number has an object.* key=lambda"):
        client.cached("openai")(double)(object())  # type: ignore[arg-type]


ABSENT = wire.LimitReservation(name="openai", reservation=0, shared=False, waited_ms=0, absent=True)


async def test_a_guard_that_asks_nothing_of_a_limit_does_without_one(
    client: Client, aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["limit.acquire"] = ABSENT
    with client.guard("openai") as call:
        call.settle(tokens=412)
        call.throttled(5)
    async with aclient.guard("openai"):
        pass
    assert methods(daemon) == ["limit.acquire", "breaker.acquire", "breaker.settle"] * 2
    assert daemon.params_of("limit.acquire")["if_exists"] is True


@pytest.mark.parametrize(
    "options",
    [
        {"limit": "openai"},
        {"rates": "60/1m"},
        {"tokens": 5},
        {"requests": 2},
        {"money_micros": 5},
        {"concurrency": 1},
        {"key": "k"},
    ],
)
def test_a_guard_that_asks_something_of_a_limit_needs_one(
    client: Client, daemon: FakeDaemon, options: Any
) -> None:
    with client.guard("openai", **options):
        pass
    assert daemon.params_of("limit.acquire")["if_exists"] is False


async def test_that_there_is_no_limit_is_told_as_a_program_of_python_mends_it(
    client: Client, aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["limit.acquire"] = NotFoundError('give {"requests": {"limit": 60}}')
    said = r'no limit openai yet: rates="60/1m", .*\[limit.shared.openai\]'
    with pytest.raises(NotFoundError, match=said), client.guard("openai", tokens=5):
        pytest.fail("it ran")
    with pytest.raises(NotFoundError, match=said), client.limit("openai"):
        pytest.fail("it ran")
    with pytest.raises(NotFoundError, match=said):
        async with aclient.limit("openai"):
            pytest.fail("it ran")


def test_a_hit_charges_no_budget(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="hit", text="9")
    assert client.guard("openai", ttl=60)(double)(4) == 9
    with client.guard("openai", cache_key="k") as call:
        assert (call.hit, call.value) == (True, 9)
    assert set(methods(daemon)) == {"cache.get"}


def test_what_the_limit_turns_away_takes_no_permit(client: Client, daemon: FakeDaemon) -> None:
    """So that a rejection by the limiter never counts as a failure."""
    daemon.answers["limit.acquire"] = RateLimitedError("full", retry_after_ms=50)
    with pytest.raises(RateLimitedError), client.guard("openai"):
        pytest.fail("it ran")
    assert methods(daemon) == ["limit.acquire"]


def test_what_the_breaker_turns_away_has_used_nothing(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["breaker.acquire"] = BreakerOpenError("open", retry_after_ms=50)
    with pytest.raises(BreakerOpenError), client.guard("openai", tokens=900):
        pytest.fail("it ran")
    settled = daemon.params_of("limit.settle")
    assert (settled["requests"], settled["tokens"], settled["money_micros"]) == (0, 0, 0)


def test_a_call_that_fails_used_what_it_reserved(client: Client, daemon: FakeDaemon) -> None:
    with pytest.raises(OSError, match="4"):
        client.guard("openai", tokens=900, ttl=60)(failing)(4)
    assert daemon.params_of("breaker.settle")["outcome"] == "failure"
    assert daemon.params_of("limit.settle")["tokens"] is None
    assert daemon.params_of("cache.fail")["error"] == "OSError"
    assert methods(daemon) == [*ORDER, "cache.fail"]


def test_429_is_told_to_both(client: Client, daemon: FakeDaemon) -> None:
    with client.guard("openai") as call:
        call.throttled(3)
        call.remaining(requests=0)
    assert daemon.params_of("breaker.settle")["outcome"] == "throttled"
    assert daemon.params_of("breaker.settle")["retry_after_ms"] == 3000
    assert daemon.params_of("limit.settle")["retry_after_ms"] == 3000
    assert daemon.params_of("limit.settle")["remaining"]["requests"] == 0
    with client.guard("openai") as call:
        call.throttled()
    assert daemon.params_of("breaker.settle")["retry_after_ms"] is None
    assert daemon.params_of("limit.settle")["retry_after_ms"] is None


def test_each_may_have_a_name_of_its_own_or_be_left_out(client: Client, daemon: FakeDaemon) -> None:
    with client.guard("openai", breaker="api", limit="team", rules={"open_s": 5}):
        pass
    assert daemon.params_of("breaker.acquire")["name"] == "api"
    assert daemon.params_of("breaker.acquire")["rules"]["open_s"] == 5
    assert daemon.params_of("limit.acquire")["name"] == "team"
    with client.guard("openai", rules=wire.BreakerRules(open_s=6)):
        pass
    assert daemon.params_of("breaker.acquire")["rules"]["open_s"] == 6
    daemon.requests.clear()
    with client.guard("openai", breaker=None, limit=None, cache="c", cache_key="k") as call:
        call.settle(tokens=1)
        call.throttled(1)
        call.remaining(tokens=1)
        call.failure()
        call.ignore()
    assert methods(daemon) == ["cache.get", "cache.fail"], "no value was set: the next one leads"
    assert daemon.params_of("cache.get")["namespace"] == "c"


def test_a_block_that_leads_sets_the_value_for_all(client: Client, daemon: FakeDaemon) -> None:
    with client.guard("openai", cache_key="k", ttl=60, returns=int) as call:
        assert not call.hit
        with pytest.raises(AttributeError, match="no value yet"):
            _ = call.value
        call.value = 12
    assert methods(daemon) == [*ORDER, "cache.set"]
    assert (daemon.params_of("cache.set")["text"], daemon.params_of("cache.set")["key"]) == (
        "12",
        "k",
    )


@pytest.mark.parametrize(
    ("error", "told"), [(LookupError("hi"), "LookupError"), (KeyboardInterrupt(), None)]
)
def test_a_block_that_raises_gives_its_lead_up(
    client: Client, daemon: FakeDaemon, error: BaseException, told: str | None
) -> None:
    with pytest.raises(type(error)), client.guard("openai", cache_key="k"):
        raise error
    assert daemon.params_of("cache.fail")["error"] == told


@pytest.mark.parametrize(
    ("method", "refusal"),
    [
        ("limit.acquire", RateLimitedError("full", retry_after_ms=5)),
        ("breaker.acquire", BreakerOpenError("open", retry_after_ms=5)),
    ],
)
async def test_a_leader_that_is_turned_away_lets_the_next_one_try(
    client: Client,
    aclient: AsyncClient,
    daemon: FakeDaemon,
    method: str,
    refusal: RateLimitedError | BreakerOpenError,
) -> None:
    daemon.answers[method] = refusal
    with pytest.raises(type(refusal)):
        client.guard("openai", ttl=60)(double)(4)
    with pytest.raises(type(refusal)), client.guard("openai", cache_key="k"):
        pytest.fail("it ran")
    with pytest.raises(type(refusal)):
        await aclient.guard("openai", ttl=60)(double_async)(4)
    with pytest.raises(type(refusal)):
        async with aclient.guard("openai", cache_key="k"):
            pytest.fail("it ran")
    assert [each["params"]["pass_on"] for each in daemon.asked("cache.fail")] == [True] * 4


def test_a_block_refreshes_a_stale_value_itself_and_takes_what_it_cannot_read_for_none(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="stale", text="1", token="t3")
    with client.guard("openai", cache_key="k") as call:
        assert not call.hit
        call.value = 2
    assert daemon.params_of("cache.set")["token"] == "t3"
    daemon.answers["cache.get"] = wire.CacheAnswer(status="hit", text="{")
    with client.guard("openai", cache_key="k") as call:
        assert not call.hit


def test_a_block_needs_its_key(client: Client) -> None:
    guard = client.guard("openai", ttl=60)
    with pytest.raises(TypeError, match="cache_key"), guard:
        pytest.fail("it ran")
    with pytest.raises(TypeError, match="option token"):
        client.guard("openai", token=1)  # type: ignore[call-arg]


async def test_asyncio_goes_the_same_way(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    used: dict[str, Any] = {"used": lambda result: {"tokens": result}}
    assert await aclient.guard("openai", ttl=60, **used)(double_async)(4) == 8
    assert methods(daemon) == [*ORDER, "cache.set"]
    assert daemon.params_of("limit.settle")["tokens"] == 8
    daemon.requests.clear()
    assert await aclient.guard("openai", **used)(double_async)(4) == 8
    assert methods(daemon) == ORDER[1:]
    daemon.requests.clear()
    async with aclient.guard("openai", cache_key="k") as call:
        call.value = 1
    assert methods(daemon) == [*ORDER, "cache.set"]
    daemon.requests.clear()
    async with aclient.guard("openai", cache_key="k"):
        pass
    assert methods(daemon) == [*ORDER, "cache.fail"]
    with pytest.raises(LookupError):
        async with aclient.guard("openai", cache_key="k"):
            raise LookupError("hi")
    assert daemon.params_of("cache.fail")["error"] == "LookupError"
    daemon.answers["breaker.acquire"] = BreakerOpenError("open")
    with pytest.raises(BreakerOpenError):
        async with aclient.guard("openai"):
            pytest.fail("it ran")
    assert daemon.params_of("limit.settle")["requests"] == 0
    daemon.answers["cache.get"] = wire.CacheAnswer(status="hit", text="9")
    async with aclient.guard("openai", cache_key="k") as call:
        assert (call.hit, call.value) == (True, 9)
    with pytest.raises(TypeError, match="cache_key"):
        async with aclient.guard("openai", ttl=60):
            pytest.fail("it ran")
