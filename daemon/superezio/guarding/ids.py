"""The id that one guarded call goes by: all its requests have it, so that one trace shows them."""

from __future__ import annotations

import os
from collections.abc import Callable

from superezio.errors import SuperezioError


def id_of_call(given: Callable[[], str | None]) -> str:
    """Return the caller's own id, or a fresh one where it has none."""
    return given() or os.urandom(16).hex()


def tell_id(error: SuperezioError, correlation_id: str) -> None:
    """Let an error that is of this side, and of no request, name the call that it ended."""
    if error.correlation_id is None:
        error.correlation_id = correlation_id
