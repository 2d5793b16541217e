"""Figures for a monitoring system."""

from __future__ import annotations

from superezio.wire.message import Result


class MetricsText(Result):
    """All metrics of the daemon in Prometheus' text format, which `content_type` names."""

    content_type: str
    text: str
