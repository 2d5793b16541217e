"""Whether a lease may be granted where it was: room, company, and all that was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from soak.serving import Serving, fewest, least_part
from soak.truth import SECOND_NS, Held, Truth, room_of
from superezio.wire import Lease

_MOMENT_NS: Final = 1_000_000
_GROWING_NS: Final = 300 * SECOND_NS
#: How old a pass may be that a decision goes by.
_FRESH_NS: Final = SECOND_NS + SECOND_NS // 20
#: So many passes that hardly differ show that a lease has grown.
_STABLE_PASSES: Final = 3


class GrantJudge:
    """Judges each grant by the passes that it was decided by."""

    def __init__(self, truth: Truth, serving: Serving) -> None:
        self._truth = truth
        self._host = truth.host
        self._serving = serving

    def check_choice(self, held: Held, *, queue_is_empty: bool) -> None:
        """Check what was chosen, before the lease counts."""
        params = held.asked.params
        for uuid in held.gpus:
            gpu = self._host.units[uuid]
            assert gpu.uuid not in params.avoid
            assert self._serving.suits(gpu, held.asked), (
                f"{uuid} is not what {held.asked.name} needs"
            )
            self._check_company(held, uuid)
        if params.holder_pid is not None and params.count == len(held.gpus) == 1:
            self._check_is_there(held)
        if params.split or params.count == len(held.gpus) == 1:
            if queue_is_empty and not self._serving.is_somewhere(held.asked):
                self._check_best(held)
        else:
            assert len(held.gpus) == params.count

    def _check_is_there(self, held: Held) -> None:
        """A lease for a server that runs is where the server is, and has none."""
        holder, readings = held.asked.holder, self._truth.readings
        assert holder is not None
        there = self._serving.used_without_lease(held.asked)
        is_seen = any(uuid in readings and holder in readings[uuid].uses for uuid in there)
        if is_seen and all(reading.taken_in for reading in readings.values()):
            assert held.gpus[0] in there, (
                f"{held.asked.name} is on {held.gpus}, and its server on {there}"
            )

    def check_parts(self, held: Held, shown: Lease) -> None:
        """The parts of a lease that is split are all of it, and the ratios say what they are."""
        params, parts = held.asked.params, list(held.reserved.values())
        assert sum(parts) == params.vram_bytes, f"the parts of {held.asked.name} are not all of it"
        assert min(parts) >= least_part(params, len(parts)), f"{held.asked.name} has an idle part"
        assert params.count in (1, len(parts))
        for gpu in shown.gpus:
            assert gpu.split_ratio == held.reserved[gpu.uuid] / params.vram_bytes
        assert shown.tensor_split is not None
        weights = [int(weight) for weight in shown.tensor_split.split(",")]
        for weight, part in zip(weights, parts, strict=True):
            off = abs(weight / sum(weights) - part / params.vram_bytes)
            assert off < 0.002, f"{shown.tensor_split} are not the parts {parts}"

    def check_room(self, held: Held, uuid: str) -> None:
        """What was promised, with all others use, fits by the pass the decision went by."""
        gpu, reading = self._host.units[uuid], self._truth.reading(uuid)
        assert reading is not None, f"granted on {uuid}, which was never read"
        age_ns = self._host.clock.now_ns - reading.taken_ns
        assert age_ns <= _FRESH_NS, f"granted by a pass of {uuid} that is {age_ns} ns old"
        assert reading.taken_ns >= self._host.woke_ns, f"{uuid} was not read since a sleep"
        assert self._truth.run is not None
        assert not self._truth.run.monitor.blocked(gpu), f"granted on {uuid}, which admits nothing"
        spoken = reading.used_bytes + held.reserved[uuid]
        if not reading.hidden and not self._truth.is_unclear:
            spoken = reading.used_bytes + self._truth.unused(gpu, reading)
        over = spoken - room_of(gpu)
        assert over <= 0, f"{uuid} is over-committed by {over} bytes"

    def check_grown(self, held: Held, uuid: str) -> None:
        """A lease has grown once its use is stable, not when it has hardly begun."""
        assert not self._grows(held, uuid), f"{held.asked.name} has not grown on {uuid}"

    def _grows(self, held: Held, uuid: str) -> bool:
        """Tell whether a lease that sizes itself cannot be known to have grown."""
        if not held.asked.params.sizes_itself or held.ready:
            return False
        # The daemon counts from the grant, which is told a moment after.
        if self._host.clock.now_ns - held.granted_ns >= _GROWING_NS - _MOMENT_NS:
            return False
        return held.used_passes[uuid] < _STABLE_PASSES

    def _check_company(self, held: Held, uuid: str) -> None:
        others = [each for each in self._truth.held.values() if uuid in each.gpus]
        for other in others:
            assert other.asked.params.policy != "exclusive", f"{uuid} is taken by an exclusive one"
            assert not self._grows(other, uuid), f"{uuid} has a lease that has not grown yet"
        assert not (others and held.asked.params.policy == "exclusive"), f"{uuid} is not empty"
        reading = self._truth.reading(uuid)
        if reading is not None and reading.compute_mode == "exclusive_process":
            assert not others, f"{uuid} lets in one process, and has a lease"
            own = set(held.asked.holder.family()) if held.asked.holder is not None else set()
            assert not reading.uses or own & reading.uses.keys(), (
                f"{uuid} lets in one process, and has one"
            )

    def _check_best(self, held: Held) -> None:
        """Nothing is split further than it has to be, and a model goes where it is already."""
        params = held.asked.params
        free = self._serving.surely_free(held.asked, exact=True)
        if params.split:
            parts = fewest(params, free)
            assert parts is None or len(held.gpus) <= parts, (
                f"{held.asked.name} is split over {held.gpus}, and {parts} would do"
            )
        elif params.model is not None and not params.prefer:
            beside = self._with_model(held)
            better = [uuid for uuid in beside if free.get(uuid, 0) >= params.vram_bytes]
            assert not better or held.gpus[0] in beside, (
                f"{held.asked.name} is on {held.gpus}, and its model on {better}"
            )

    def _with_model(self, held: Held) -> set[str]:
        alike: Iterable[Held] = self._truth.held.values()
        asked = held.asked
        return {
            uuid
            for each in alike
            if each.asked.uid == asked.uid and each.asked.params.model == asked.params.model
            for uuid in each.gpus
        }
