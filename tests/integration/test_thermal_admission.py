"""SEMANTICS 6: admission stops and resumes at margins of their own, and of each GPU."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import Json, PlainClient, RefusedError, plain_client
from supereziod.gpu.control import SimulatedControl
from supereziod.gpu.profiles import find_profile, simulated_uuid

GIB = 1 << 30
CARD = find_profile("RTX 3060")
assert CARD is not None
SLOWDOWN_C = CARD.slowdown_temperature_c
COMMON, OWN = simulated_uuid(0, CARD), simulated_uuid(1, CARD)

#: Two cards of one model, cool and idle.
SCENARIO = '[[gpu]]\nprofile = "RTX 3060"\n\n[[gpu]]\nprofile = "RTX 3060"\n'
#: The dwells of both ladders, in rehearsal time; every margin of the common one is the default.
DWELLS = """
warm_enter_dwell = "200ms"
warm_leave_dwell = "200ms"
hot_enter_dwell = "300ms"
hot_leave_dwell = "500ms"
"""
CONFIG = f"""
[gpu]
sample_period = "100ms"

[gpu.thermal]
{DWELLS}
[gpu.override."{OWN}".thermal]
{DWELLS}
warm_enter_c = 24
warm_leave_c = 34
hot_enter_c = 18
hot_leave_c = 30
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon", config=CONFIG, scenario=SCENARIO).start()
    yield live
    live.close()


class Oven:
    """Heats both cards alike, and follows the levels that the daemon tells."""

    def __init__(self, daemon: LiveDaemon, client: PlainClient) -> None:
        self._control = SimulatedControl(daemon.runtime_dir / "simulated")
        self._client = client
        self.path: dict[str, list[str]] = {COMMON: [], OWN: []}

    def margin(self, degrees: int) -> None:
        for slot in (0, 1):
            self._control.temperature(slot, SLOWDOWN_C - degrees)

    async def until(self, uuid: str, *levels: str) -> None:
        """Take in changes of levels until a GPU has gone through these."""
        async with asyncio.timeout(20):
            while self.path[uuid][-len(levels) :] != list(levels):
                event: Json = (await self._client.notifications.get())["params"]["event"]
                self.path[event["gpu"]].append(event["data"]["level"])

    async def both_read(self, degrees: int) -> None:
        """Wait until both cards were read at that margin."""
        async with asyncio.timeout(20):
            while True:
                gpus = (await self._client.call("gpu.list"))["gpus"]
                if {gpu["margin_c"] for gpu in gpus} == {degrees}:
                    return

    async def refusal(self, uuid: str) -> str | None:
        """Ask for a lease on one of the cards; return why it is refused, or None."""
        other = OWN if uuid == COMMON else COMMON
        try:
            lease = await self._client.call(
                "lease.acquire", vram_bytes=GIB, mode="connection", avoid=[other]
            )
        except RefusedError as error:
            reasons = error.error["data"]["placement"]["gpus"]
            return next(str(each["code"]) for each in reasons if each["uuid"] == uuid)
        await self._client.call("lease.release", lease=lease["id"])
        return None


async def test_each_gpu_stops_and_resumes_at_its_own_thresholds(daemon: LiveDaemon) -> None:
    async with plain_client(daemon.socket_path) as client, plain_client(daemon.socket_path) as two:
        oven = Oven(daemon, client)
        oven.margin(50)
        await oven.both_read(50)
        await client.call("events.subscribe", types=["gpu.level"])
        assert (await oven.refusal(COMMON), await oven.refusal(OWN)) == (None, None)

        oven.margin(17)  # HOT by its own threshold, not even WARM by the common one
        await oven.until(OWN, "hot")
        await oven.both_read(17)
        assert (await oven.refusal(COMMON), await oven.refusal(OWN)) == (None, "hot")
        assert oven.path[COMMON] == []
        waiting = two.send(
            "lease.acquire", vram_bytes=GIB, mode="connection", avoid=[COMMON], wait_ms=60_000
        )

        oven.margin(5)  # HOT by either
        await oven.until(COMMON, "hot")
        assert (await oven.refusal(COMMON), await oven.refusal(OWN)) == ("hot", "hot")

        oven.margin(11)  # above 6, where HOT was entered: not left before 12
        await oven.both_read(11)
        await asyncio.wait({waiting}, timeout=1.0)
        assert (await oven.refusal(COMMON), await oven.refusal(OWN)) == ("hot", "hot")

        oven.margin(13)  # the common one resumes; its own resumes at 30
        await oven.until(COMMON, "hot", "warm")
        assert (await oven.refusal(COMMON), await oven.refusal(OWN)) == (None, "hot")
        oven.margin(29)
        await oven.until(COMMON, "hot", "warm", "normal")
        assert (await oven.refusal(COMMON), await oven.refusal(OWN)) == (None, "hot")
        assert not waiting.done()

        oven.margin(31)
        await oven.until(OWN, "hot", "warm")
        async with asyncio.timeout(10):
            lease = await waiting
        assert [gpu["uuid"] for gpu in lease["gpus"]] == [OWN]
        assert await oven.refusal(OWN) is None
