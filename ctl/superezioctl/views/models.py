"""Models as text."""

from __future__ import annotations

from superezioctl.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def show(out: Output, models: list[dict[str, Any]]) -> None:
    """Print a line for each model, and what is wrong with files."""
    if not models:
        out.line("no models: write /etc/superezio/models/NAME.toml for one")
        return
    header = ["MODEL", "UNIT", "AT BOOT", "LEASE", "GPU", "STATUS"]
    out.table(header, list(map(_row, models)), spare=[2], cut=5)
    for model in models:
        for problem in model["problems"]:
            out.line(out.style(problem, "bad"))


def _row(model: dict[str, Any]) -> list[str]:
    state = model["active_state"]
    return [
        model["name"],
        "unknown" if state is None else f"{state} ({model['sub_state']})",
        {None: "unknown", True: "started", False: "no"}[model["enabled"]],
        (model["lease"] or "-")[:8],
        "+".join(map(str, model["gpus"])) or "-",
        model["status"] or "",
    ]
