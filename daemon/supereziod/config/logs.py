"""[logging]: where log lines go, and which."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from supereziod.config.section import Section


class Logging(Section, frozen=True):
    format: Annotated[
        Literal["auto", "journald", "json", "console"],
        Meta(
            description="auto: the journal under systemd, text on a terminal, JSON elsewhere.",
        ),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        Meta(description="Log from this level on."),
    ] = "info"
