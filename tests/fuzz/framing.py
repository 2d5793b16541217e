"""The frame decoder: any bytes, in any pieces, are the lines that they are as a whole.

The first two bytes say how the rest comes: the longest line that is read, and where it is cut. What
is right is worked out from the whole at once, by splitting it.
"""

from __future__ import annotations

from typing import Final

from fuzz.judge import WrongError
from superezio.framing import LineFramer
from supereziod.rpc.decoding import Batch, Call, Refusal, RequestDecoder, Signature
from supereziod.rpc.methods import METHODS

_MAX_BATCH: Final = 20
_DECODER: Final = RequestDecoder(
    [Signature(each.name, each.params, each.hands_out) for each in METHODS], max_batch=_MAX_BATCH
)


def frame(data: bytes) -> None:
    """Read one input as the daemon does. Raises WrongError, or whatever the decoder lets out."""
    if len(data) < 3:
        return
    cap, step, stream = data[0] * 8 + 1, data[1] + 1, data[2:]
    found = _read(stream, cap=cap, step=step)
    right = [line if len(line) <= cap else None for line in stream.split(b"\n")]
    if found != right:
        raise WrongError(f"cap {cap}, pieces of {step}: {found} instead of {right}")
    for line in stream.split(b"\n"):
        _decode(line)


def _read(stream: bytes, *, cap: int, step: int) -> list[bytes | None]:
    """Return all lines, what is left at the end as the last one."""
    framer = LineFramer(max_frame_bytes=cap)
    found: list[bytes | None] = []
    for at in range(0, len(stream), step):
        found += framer.feed(stream[at : at + step])
        if framer.carried_bytes > cap:
            raise WrongError(f"{framer.carried_bytes} bytes are kept of a line of at most {cap}")
        if framer.is_clean and framer.carried_bytes:
            raise WrongError("a line is begun, and it is said that none is")
    told_already = not framer.is_clean and not framer.carried_bytes
    last = framer.finish()
    return found if told_already else [*found, last]


def _decode(line: bytes) -> None:
    what = _DECODER.line(line)
    if isinstance(what, Batch):
        if not 0 < len(what.items) <= _MAX_BATCH:
            raise WrongError(f"a batch of {len(what.items)}")
        items = what.items
    else:
        items = [what]
    for each in items:
        if not isinstance(each, Call | Refusal):
            raise WrongError(f"neither a call nor a refusal: {each!r}")
        if isinstance(each, Refusal) and not each.error.message:
            raise WrongError("a refusal that says nothing")
