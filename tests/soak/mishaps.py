"""What can befall a host: each in a line of the table at the end."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import Final

from soak.cards import Card, Gpu
from soak.judge import ADMIN
from soak.soak import Mishap, Soak
from soak.users import QUOTAS
from superezio.errors import StateNotWritableError
from superezio.wire import LeaseRevokeParams
from supereziod.gpu.hardware import Block, ComputeMode
from supereziod.leases.manager import LeaseTimes


async def _kill(soak: Soak, _: random.Random) -> None:
    await soak.end_run(killed=True)


async def _stop(soak: Soak, _: random.Random) -> None:
    await soak.end_run(killed=False)


async def _reboot(soak: Soak, _: random.Random) -> None:
    await soak.reboot()


async def _suspend(soak: Soak, draw: random.Random) -> None:
    soak.clock.suspend(60 + draw.expovariate(1 / 7200))
    soak.host.woke_ns = soak.clock.now_ns
    soak.changed()


async def _jump(soak: Soak, draw: random.Random) -> None:
    soak.clock.jump(draw.choice((-3600, 3600, -90_000, 5, 40_000_000, -40_000_000)))


async def _kill_process(soak: Soak, draw: random.Random) -> None:
    if soak.host.processes:
        soak.host.end(draw.choice(list(soak.host.processes.values())), "it is killed")


async def _hang(soak: Soak, draw: random.Random) -> None:
    card = _any_card(soak, draw)
    await soak.for_a_while(draw, 60, lambda: _set(card, hung=True), lambda: _set(card, hung=False))


async def _answer_late(soak: Soak, draw: random.Random) -> None:
    card, late_s = _any_card(soak, draw), draw.choice((0.02, 0.3, 0.9))
    await soak.for_a_while(
        draw, 300, lambda: _set(card, latency_s=late_s), lambda: _set(card, latency_s=0.002)
    )


async def _hide(soak: Soak, draw: random.Random) -> None:
    card = _any_card(soak, draw)
    await soak.for_a_while(
        draw, 900, lambda: _set(card, hidden=True), lambda: _set(card, hidden=False)
    )


async def _heat(soak: Soak, draw: random.Random) -> None:
    card = _any_card(soak, draw)
    for level in draw.choice((("warm",), ("warm", "hot"), ("hot", "critical", "hot", "warm"))):
        block = None if level == "warm" else Block(code=level, message=f"it is {level}")
        await soak.for_a_while(
            draw,
            90,
            partial(_set, card, level=level, block=block),
            partial(_set, card, level="normal", block=None),
        )


async def _cordon(soak: Soak, draw: random.Random) -> None:
    gpu = soak.host.gpus[draw.choice(list(soak.host.gpus))]
    await soak.for_a_while(
        draw, 300, lambda: _set(gpu, cordoned=True), lambda: _set(gpu, cordoned=False)
    )


async def _quarantine(soak: Soak, draw: random.Random) -> None:
    await _block(soak, draw, "quarantined")


async def _lose_gpu(soak: Soak, draw: random.Random) -> None:
    await _block(soak, draw, "lost")


async def _block(soak: Soak, draw: random.Random, code: str) -> None:
    card, block = _any_card(soak, draw), Block(code=code, message=f"it is {code}")
    await soak.for_a_while(
        draw, 300, lambda: _set(card, block=block), lambda: _set(card, block=None)
    )


async def _let_in_one(soak: Soak, draw: random.Random) -> None:
    await _set_compute_mode(soak, draw, "exclusive_process", 1200)


async def _let_in_none(soak: Soak, draw: random.Random) -> None:
    await _set_compute_mode(soak, draw, "prohibited", 300)


async def _set_compute_mode(
    soak: Soak, draw: random.Random, mode: ComputeMode, mean_s: float
) -> None:
    card = _any_card(soak, draw)
    await soak.for_a_while(
        draw,
        mean_s,
        lambda: _set(card, compute_mode=mode),
        lambda: _set(card, compute_mode="default"),
    )


async def _cut_anew(soak: Soak, draw: random.Random) -> None:
    """Have a card with MIG drained, and cut it anew once nothing uses it.

    MIG is turned on and off only if no lease is on the card; a lease without a process keeps
    nobody from cutting it otherwise, and is left on an instance that is gone.
    """
    card = next(card for card in soak.host.cards if len(card.layouts) > 1)
    layout = draw.choice([each for each in card.layouts if each != card.layout])
    units = list(card.units)
    for unit in units:
        unit.cordoned = True
    soak.changed()
    for _ in range(360):
        await asyncio.sleep(5)
        uuids = {unit.uuid for unit in units}
        leased = any(uuids & set(held.gpus) for held in soak.judge.held.values())
        if card.is_empty and not (leased and not (layout and card.layout)):
            soak.host.cut(card, layout)
            soak.host.counts["cut anew with leases" if leased else "cut anew"] += 1
            break
    for unit in units:
        unit.cordoned = False
    soak.changed()


async def _reload(soak: Soak, draw: random.Random) -> None:
    soak.set_quotas(draw.choice([rules for rules in QUOTAS if rules is not soak.host.quotas]))


async def _fill_disk(soak: Soak, draw: random.Random) -> None:
    await soak.for_a_while(
        draw, 60, lambda: soak.set_writable(False), lambda: soak.set_writable(True)
    )


async def _revoke(soak: Soak, draw: random.Random) -> None:
    run = await soak.up()
    if not soak.judge.held:
        return
    lease = draw.choice(list(soak.judge.held))
    within_s = draw.choice((None, 0.0, 5.0, 120.0))
    soak.judge.revoking[lease] = LeaseTimes().revoke_deadline_s if within_s is None else within_s
    with suppress(StateNotWritableError):
        run.leases.revoke(ADMIN, LeaseRevokeParams(lease=lease, deadline_s=within_s))


async def _open_all_files(soak: Soak, draw: random.Random) -> None:
    def set_out(out: bool) -> None:  # noqa: FBT001
        soak.host.out_of_files = out

    await soak.for_a_while(draw, 20, lambda: set_out(True), lambda: set_out(False))


def _any_card(soak: Soak, draw: random.Random) -> Card:
    return draw.choice(soak.host.cards)


def _set(whose: Card | Gpu, **state: object) -> None:
    for name, value in state.items():
        setattr(whose, name, value)


MISHAPS: Final = (
    Mishap("kill -9", 3, _kill),
    Mishap("stop", 6, _stop),
    Mishap("reboot", 24, _reboot),
    Mishap("suspend", 12, _suspend),
    Mishap("the clock jumps", 6, _jump),
    Mishap("a process is killed", 0.5, _kill_process),
    Mishap("a gpu hangs", 3, _hang),
    Mishap("a gpu answers late", 2, _answer_late),
    Mishap("a gpu hides whose memory it is", 8, _hide),
    Mishap("a gpu heats up", 3, _heat),
    Mishap("a gpu is cordoned", 6, _cordon),
    Mishap("a gpu is quarantined", 8, _quarantine),
    Mishap("a gpu is lost", 12, _lose_gpu),
    Mishap("a gpu lets in one process", 1.5, _let_in_one),
    Mishap("a gpu lets in none", 6, _let_in_none),
    Mishap("a card is to be cut anew", 5, _cut_anew),
    Mishap("the quotas are changed", 2, _reload),
    Mishap("the disk is full", 4, _fill_disk),
    Mishap("no file can be opened", 4, _open_all_files),
    Mishap("an admin revokes", 1, _revoke),
)
