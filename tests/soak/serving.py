"""What could be served: which GPUs may hold what is asked for, and which have it free."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from soak.cards import MIB, Gpu
from soak.truth import Asked, Held, Truth, room_of
from soak.users import limits_vram
from superezio.wire import AcquireParams

_LEAST_PART: Final = 512 * MIB
_TOLERANCE: Final = 512 * MIB


class Serving:
    """Answers by the truth, as the daemon has been shown it: never by what the daemon says."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._host = truth.host

    def suits(self, gpu: Gpu, asked: Asked) -> bool:
        """Tell whether the GPU is of the kind that is asked for, by its last pass.

        Who is held to a quota has one alone by asking for all of it.
        """
        params = asked.params
        fills = params.policy == "exclusive" and limits_vram(self._host.quotas, asked.uid)
        if fills and room_of(gpu) > params.vram_bytes + _TOLERANCE:
            return False
        reading = self._truth.reading(gpu.uuid)
        if reading is None or gpu.uuid in params.avoid or reading.compute_mode == "prohibited":
            return False
        if gpu.mig_index is not None and (params.split or params.count > 1):
            return False
        if params.no_display and gpu.card.drives_display:
            return False
        if params.compute_mode not in (None, reading.compute_mode):
            return False
        least = params.min_compute_capability
        return least is None or gpu.card.capability >= _capability(least)

    def candidates(self, asked: Asked) -> set[str]:
        """Return the GPUs that could serve the acquire, were they empty."""
        rooms = {gpu.uuid: room_of(gpu) for gpu in self._gpus() if self.suits(gpu, asked)}
        return able(asked.params, rooms)

    def kept_for(self, asked: Asked, *, past: Asked) -> set[str]:
        """Return the GPUs of which something is kept for one that waits, from one that came later.

        Those are open, and would hold it if all had ended but the leases of its own user: nobody
        holds off others with what is one's own. From its own user it is kept in any case.
        """
        params, rooms = asked.params, {}
        for gpu in self._gpus():
            if not self.suits(gpu, asked) or self._is_blocked(gpu):
                continue
            own = [
                held
                for held in self._truth.held.values()
                if gpu.uuid in held.gpus and asked.uid == held.asked.uid != past.uid
            ]
            if own and (params.policy == "exclusive" or self._admits_one(gpu, own)):
                continue
            rooms[gpu.uuid] = room_of(gpu) - sum(held.reserved[gpu.uuid] for held in own)
        return able(params, rooms)

    def could_serve(self, asked: Asked, *, exact: bool) -> bool:
        """Tell whether the acquire can be granted, beyond doubt; `exact`: at this very moment."""
        return not self.is_somewhere(asked) and bool(
            able(asked.params, self.surely_free(asked, exact=exact))
        )

    def is_somewhere(self, asked: Asked) -> bool:
        """Tell whether the holder uses VRAM already, by a pass or by now: not every GPU will do."""
        family = list(asked.holder.family()) if asked.holder is not None else []
        uses = [gpu.uses for gpu in self._host.gpus.values()]
        uses += [reading.uses for reading in self._truth.readings.values()]
        return any(process in each for each in uses for process in family)

    def used_without_lease(self, asked: Asked) -> set[str]:
        """Return the GPUs that the holder uses, by a pass or by now, and has no lease on."""
        family = set(asked.holder.family()) if asked.holder is not None else set()
        leased = {
            uuid
            for held in self._truth.held.values()
            if held.attached & family
            for uuid in held.gpus
        }
        readings = self._truth.readings
        return {
            gpu.uuid
            for gpu in self._host.units.values()
            if family & gpu.uses.keys()
            or (gpu.uuid in readings and family & readings[gpu.uuid].uses.keys())
        } - leased

    def surely_free(self, asked: Asked, *, exact: bool) -> dict[str, int]:
        """Return the GPUs that let the lease in beyond doubt, and what is free on each."""
        found = {}
        for gpu in self._gpus():
            if self.suits(gpu, asked) and self._is_open(gpu, asked.params, exact=exact):
                reading = self._truth.reading(gpu.uuid)
                assert reading is not None
                spoken = reading.used_bytes + self._truth.unused(gpu, reading)
                back = sum(each.most_bytes for each in self._truth.returning(gpu.uuid, reading))
                found[gpu.uuid] = room_of(gpu) - spoken - back
        return found

    def free_and_claims(self, uuid: str, *, without: Held) -> tuple[int, list[int], int] | None:
        """Return what was free on the GPU before a grant, what each lease has, and all the rest.

        None where that is not known exactly.
        """
        truth, gpu, reading = self._truth, self._host.units[uuid], self._truth.reading(uuid)
        if reading is None or reading.hidden or not reading.taken_in or truth.is_unclear:
            return None
        if not truth.is_settled(uuid, reading) or self.is_somewhere(without.asked):
            return None
        free = room_of(gpu) - reading.used_bytes - truth.unused(gpu, reading)
        free += without.reserved[uuid]
        leases = [held for held in truth.held.values() if held is not without]
        claims = [held.reserved[uuid] for held in leases if uuid in held.gpus]
        return free, claims, max(0, room_of(gpu) - free - sum(claims))

    def _gpus(self) -> Collection[Gpu]:
        return self._host.gpus.values()

    def _is_blocked(self, gpu: Gpu) -> bool:
        assert self._truth.run is not None
        return self._truth.run.monitor.blocked(gpu)

    def _admits_one(self, gpu: Gpu, leases: list[Held]) -> bool:
        reading = self._truth.reading(gpu.uuid)
        assert reading is not None
        alone = reading.compute_mode == "exclusive_process" or gpu.uuid in self._truth.opaque
        return alone or any(held.asked.params.policy == "exclusive" for held in leases)

    def _is_open(self, gpu: Gpu, params: AcquireParams, *, exact: bool) -> bool:
        """Tell whether the GPU lets the lease in, if it is small enough, beyond doubt."""
        truth, uuid, reading = self._truth, gpu.uuid, self._truth.reading(gpu.uuid)
        if reading is None or uuid in truth.opaque or not reading.taken_in or gpu.card.hung:
            return False
        if self._is_blocked(gpu) or (exact and not truth.is_fresh(uuid, reading)):
            return False
        others = [held for held in truth.held.values() if uuid in held.gpus]
        if any(each.asked.params.policy == "exclusive" for each in others):
            return False
        if any(each.asked.params.sizes_itself and not each.ready for each in others):
            return False
        is_single = reading.compute_mode == "exclusive_process"
        if is_single and (reading.uses or truth.returning(uuid, reading)):
            return False
        alone = is_single or params.policy == "exclusive"
        spoken = reading.used_bytes + truth.unused(gpu, reading)
        return not (alone and (others or spoken))


def able(params: AcquireParams, rooms: Mapping[str, int]) -> set[str]:
    """Return the GPUs with so much room that could have the lease, or a part of it."""
    if not params.split:
        found = {uuid for uuid, room in rooms.items() if room >= params.vram_bytes}
        return found if len(found) >= params.count else set()
    return {uuid for uuid in rooms if _takes_part(uuid, params, rooms)}


def fewest(params: AcquireParams, rooms: Mapping[str, int]) -> int | None:
    """Return on how few GPUs with so much room the split lease fits."""
    largest = sorted(rooms.values(), reverse=True)
    for parts in _numbers(params, len(rooms)):
        chosen = largest[:parts]
        if sum(chosen) >= params.vram_bytes and chosen[-1] >= least_part(params, parts):
            return parts
    return None


def least_part(params: AcquireParams, parts: int) -> int:
    """Return the least that one of so many GPUs has of a split lease."""
    return max(1, min(_LEAST_PART, params.vram_bytes // (2 * parts)))


def _takes_part(uuid: str, params: AcquireParams, rooms: Mapping[str, int]) -> bool:
    others = sorted((room for each, room in rooms.items() if each != uuid), reverse=True)
    for parts in _numbers(params, len(rooms)):
        chosen = [rooms[uuid], *others[: parts - 1]]
        if sum(chosen) >= params.vram_bytes and min(chosen) >= least_part(params, parts):
            return True
    return False


def _numbers(params: AcquireParams, gpus: int) -> range:
    """Return on how many GPUs a split lease may be."""
    if params.count > 1:
        return range(params.count, min(params.count, gpus) + 1)
    return range(1, gpus + 1)


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
