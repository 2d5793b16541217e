"""The tests of guarded calls see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

_HERE: Final = Path(__file__).parent
_ADAPTERS: Final = _HERE.parent / "adapters"
_ANSWERS: Final = _ADAPTERS / "test_answers.py"
_BODIES: Final = _ADAPTERS / "test_httpx_bodies.py"
_G: Final = "superezio.guarding."

MUTANTS = (
    Mutant(
        "drops the settle of a block that raises",
        _G + "breaking",
        "    finally:\n        line.tell(permit.settlement()",
        "    else:\n        line.tell(permit.settlement()",
    ),
    Mutant(
        "drops the settle of an async block that raises",
        _G + "breaking",
        "    finally:\n        await line.tell(permit.settlement()",
        "    else:\n        await line.tell(permit.settlement()",
    ),
    Mutant(
        "forgets to return the permit of a cancelled call",
        _G + "breaking",
        "    finally:\n        await line.tell(permit.settlement()",
        '    finally:\n        if permit._outcome != "ignore":\n'
        "            await line.tell(permit.settlement()",
    ),
    Mutant(
        "takes a rejection of its own for a failure",
        _G + "breaking",
        "if isinstance(error, SuperezioError) or not isinstance(error, Exception):",
        "if not isinstance(error, Exception):",
    ),
    Mutant(
        "ignores Retry-After",
        _G + "breaking",
        'retry_after_ms = self._retry_after_ms if outcome == "throttled" else None',
        "retry_after_ms = None",
    ),
    Mutant(
        "settles a slot twice",
        _G + "limiting",
        "        if slot.exists:\n            line.tell(slot.settlement(), slot.side)",
        "        if slot.exists:\n            line.tell(slot.settlement(), slot.side)\n"
        "            line.tell(slot.settlement(), slot.side)",
    ),
    Mutant(
        "keeps the slot of an async block that raises",
        _G + "limiting",
        "    try:\n        yield slot\n    finally:\n"
        "        if slot.exists:\n            await line.tell(slot.settlement()",
        "    yield slot\n    if True:\n"
        "        if slot.exists:\n            await line.tell(slot.settlement()",
    ),
    Mutant(
        "charges for what the breaker turned away",
        _G + "limiting",
        "self.settle(requests=0, tokens=0, money_micros=0)",
        "self.settle()",
    ),
    Mutant(
        "does not tell of the leader's error",
        _G + "caching",
        "old = self.give_up(error)",
        "old = self.give_up()",
    ),
    Mutant(
        "does not tell of the async leader's error",
        _G + "caching",
        "old = await self.give_up(error)",
        "old = await self.give_up()",
    ),
    Mutant(
        "keeps the lead of a cancelled leader",
        _G + "caching",
        "        except BaseException:\n            await self.give_up()\n            raise",
        "        except BaseException:\n            raise",
    ),
    Mutant(
        "tells everybody the text of an error",
        _G + "caching",
        'return f"{name}: {error}" if self.tell_errors else name',
        'return f"{name}: {error}"',
    ),
    Mutant(
        "keeps the lead of a value that could not be delivered",
        _G + "caching",
        "        if told is None:\n            self.give_up()",
        "        if told is None:\n            pass",
    ),
    Mutant(
        "runs the stand-in when the daemon said no",
        _G + "lines",
        "            except ABSENT:",
        "            except SuperezioError:",
    ),
    Mutant(
        "runs the async stand-in when the daemon said no",
        _G + "aio_lines",
        "            except ABSENT:",
        "            except SuperezioError:",
    ),
    Mutant(
        "asks a daemon that is away with each call",
        _G + "lines",
        "self._absence.note()",
        "pass",
    ),
    Mutant(
        "tells those that wait of a rejection that was the leader's own",
        _G + "caching",
        "pass_on = isinstance(error, _TURNED_AWAY)",
        "pass_on = False",
    ),
    Mutant(
        "keeps a connection on which something is held",
        _G + "lines",
        "self.untold, self.untold or held",
        "self.untold, self.untold",
    ),
    Mutant(
        "counts 429 as a failure",
        "superezio.adapters.answers",
        "call.throttled(retry_after_s(headers, now_s=now_s))",
        "call.failure()",
    ),
    Mutant(
        "takes a body that breaks off for one that was read",
        "superezio.adapters.httpx_bodies",
        "            self._end(error)\n            raise",
        "            self._end(None)\n            raise",
    ),
    Mutant(
        "takes an async body that breaks off for one that was read",
        "superezio.adapters.httpx_bodies",
        "            await self._end(error)\n            raise",
        "            await self._end(None)\n            raise",
    ),
    Mutant(
        "takes a body that was closed early for one that was read",
        "superezio.adapters.httpx_bodies",
        "        finally:\n            self._end(LeftEarlyError())",
        "        finally:\n            self._end(None)",
    ),
    Mutant(
        "keeps the slot of a body that was read until it is closed",
        "superezio.adapters.httpx_bodies",
        "            raise\n        self._end(None)",
        "            raise",
    ),
    Mutant(
        "forgets responses that nobody closes",
        "superezio.adapters.httpx_bodies",
        "            self._left.append(number)",
        "            self._held.pop(number)",
    ),
    Mutant(
        "does not know the last event of a stream",
        "superezio.adapters.httpx_bodies",
        "return None if _LAST_EVENT in self._tail else error",
        "return error",
    ),
    Mutant(
        "settles a request when its headers are in",
        "superezio.adapters.httpx_transport",
        "            if is_to_come(request, response):\n                response.stream = Body(",
        "            if False:\n                response.stream = Body(",
    ),
    Mutant(
        "gives nobody the turn of one that left",
        _G + "aio_turns",
        "            elif not turn.cancelled() and turn.exception() is None:\n"
        "                self.give_back(name)",
        "            elif not turn.cancelled() and turn.exception() is None:\n                pass",
    ),
    Mutant(
        "lets one lane have all turns",
        _G + "aio_turns",
        "return left > 0 and lane.out < left",
        "return left > 0",
    ),
    Mutant(
        "lets the last one go first",
        _G + "aio_turns",
        "turn = next(iter(lane.waiting))",
        "turn = next(reversed(lane.waiting))",
    ),
    Mutant(
        "counts those that wait for a turn on when the client is closed",
        _G + "aio_turns",
        "                self._drop(name, lane, turn)\n                if not turn.done():\n"
        "                    turn.set_exception(",
        "                if not turn.done():\n                    turn.set_exception(",
    ),
    Mutant(
        "connects anew for what was begun before the client was closed",
        _G + "aio_requests",
        "closings=errand.closings,",
        "closings=None,",
    ),
    Mutant(
        "keeps what was handed to a caller that left",
        _G + "aio_requests",
        "self._give_back(self._call, caller.result())",
        "pass",
    ),
    Mutant(
        "goes on asking when nobody waits",
        _G + "aio_requests",
        "            self.task.cancel()",
        "            pass",
    ),
    Mutant(
        "lets all callers fetch",
        _G + "aio_requests",
        '        if answer.status == "lead":\n            return',
        '        if answer.status == "none":\n            return',
    ),
    Mutant(
        "takes the time of the first for that of all",
        _G + "aio_requests",
        "if caller is not first and since_ns > over_ns:",
        "if False:",
    ),
    Mutant(
        "takes a daemon that is full for a refusal",
        _G + "aio_requests",
        "if limit not in _AT_ONCE or pause_ms is None or out_of_time:",
        "if True:",
    ),
)

_JUDGES: Final = {
    _G + "breaking": ("test_breaking.py",),
    _G + "limiting": ("test_limiting.py", "test_composing.py"),
    _G + "caching": ("test_caching.py",),
    _G + "lines": ("test_insisting.py", "test_absence.py"),
    _G + "aio_lines": ("test_absence.py",),
    _G + "aio_turns": ("test_aio_turns.py",),
    _G + "aio_requests": ("test_aio_requests.py",),
}


def _judges(mutant: Mutant) -> tuple[Path, ...]:
    if "httpx" in mutant.module:
        return (_BODIES,)
    names = _JUDGES.get(mutant.module)
    return (_ANSWERS,) if names is None else tuple(_HERE / name for name in names)


mutants, test_the_tests_pass, test_the_tests_kill = kept_list(MUTANTS, tests=_judges)
