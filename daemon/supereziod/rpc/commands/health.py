"""health.*: the verdict and its reasons."""

from __future__ import annotations

from typing import Protocol

from superezio.wire import Health, NoParams
from supereziod.rpc.requests import RequestContext


class Doctor(Protocol):
    """The health manager, as far as it is asked."""

    def evaluate(self) -> Health:
        """Look at every check and return the verdict."""


class HealthCommands:
    """Handlers of health.*."""

    def __init__(self, doctor: Doctor) -> None:
        self._doctor = doctor

    def get(self, _request: RequestContext, _params: NoParams) -> Health:
        """Return the verdict on the host with its reasons."""
        return self._doctor.evaluate()
