"""lease.quota: what the caller may have leased at a time, and has."""

from __future__ import annotations

from typing import Protocol

from superezio.wire import NoParams, QuotaList
from supereziod.leases.handles import Caller
from supereziod.rpc.commands.lease import caller_of
from supereziod.rpc.requests import RequestContext


class QuotaBook(Protocol):
    """The lease manager, as far as it is asked."""

    def quotas_of(self, caller: Caller) -> QuotaList:
        """Return the quotas that apply to the caller, and what is used of each."""


class QuotaCommands:
    """The handler of lease.quota."""

    def __init__(self, quotas: QuotaBook) -> None:
        self._quotas = quotas

    def quota(self, request: RequestContext, _params: NoParams) -> QuotaList:
        """Return the quotas that apply to the caller."""
        return self._quotas.quotas_of(caller_of(request))
