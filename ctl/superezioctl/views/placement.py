"""A placement decision as text."""

from __future__ import annotations

import msgspec

from superezio.wire import Placement
from superezioctl.output import Output
from superezioctl.views.text import size

_STYLES = {"grant": "good", "wait": "warn", "never": "bad"}


def show(out: Output, raw: bytes) -> None:
    """Print the decision, and a line for each GPU."""
    placement = msgspec.json.decode(raw, type=Placement)
    out.line(f"{out.style(placement.decision, _STYLES[placement.decision])}: {placement.summary}")
    if not placement.gpus:
        return
    out.table(
        ("GPU", "NAME", "FITS", "FREE", "NEEDED", "REASON"),
        [
            (
                str(gpu.index),
                gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce "),
                out.style("chosen", "good") if gpu.chosen else ("yes" if gpu.admitted else "no"),
                size(gpu.free_bytes),
                size(gpu.needed_bytes),
                gpu.message,
            )
            for gpu in placement.gpus
        ],
        right=(3, 4),
    )
