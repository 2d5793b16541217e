"""Metrics of the control plane: connections, requests and sessions of all callers together."""

from __future__ import annotations

from typing import Final

from supereziod.observability.metrics import Family, Metric, counter, gauge, single
from supereziod.rpc.limits import Traffic
from supereziod.rpc.sessions import Sessions

_CONNECTIONS: Final = gauge("superezio_connections", "Connections that are open")
_IN_FLIGHT: Final = gauge("superezio_in_flight_requests", "Requests that wait for their answer")
_REQUESTS: Final = counter("superezio_requests_total", "Requests that were taken in")
_OPENED: Final = gauge("superezio_sessions_open", "Sessions that were opened, and are there")
_IMPLIED: Final = gauge(
    "superezio_sessions_implied", "Sessions that nobody opened: each connection has one"
)
_REFUSED: Final = counter(
    "superezio_refused_connections_total", "Connections refused because a limit was reached"
)


class TrafficMetrics:
    """The source of what goes over the socket."""

    families: Final[tuple[Family, ...]] = (
        _CONNECTIONS,
        _IN_FLIGHT,
        _REQUESTS,
        _REFUSED,
        _OPENED,
        _IMPLIED,
    )

    def __init__(self, traffic: Traffic, sessions: Sessions) -> None:
        self._traffic = traffic
        self._sessions = sessions

    def collect(self) -> list[Metric]:
        """Return the counters as they stand."""
        traffic = self._traffic
        opened, implied = self._sessions.counts
        return [
            single(_CONNECTIONS, traffic.connections),
            single(_IN_FLIGHT, traffic.in_flight),
            single(_REQUESTS, traffic.requests),
            single(_REFUSED, traffic.refused_connections),
            single(_OPENED, opened),
            single(_IMPLIED, implied),
        ]
