"""The three things around a call, held from before it to after it: value, room and permit.

What was taken is given back in any case; that the daemon went away in the middle is told, and
changes nothing of how the command ended.
"""

from __future__ import annotations

import base64
import json

from superezio.errors import SuperezioError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: Makes a call and returns its result; raises SuperezioError.
    Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


class Value:
    """A key of the cache: its value, or the duty to fetch it."""

    def __init__(self, ask: Ask, *, namespace: str, key: str, wait_ms: int, lead_ms: int) -> None:
        self._ask = ask
        self._place = {"namespace": namespace, "key": key}
        answer = ask(
            "cache.get", {**self._place, "fill": True, "wait_ms": wait_ms, "lead_ms": lead_ms}
        )
        self.status: str = answer["status"]
        self._token: str | None = answer["token"]
        self.content = _content(answer)

    @property
    def is_there(self) -> bool:
        """Whether there is a value, and nothing to be fetched."""
        return self.content is not None and self._token is None

    def keep(self, output: bytes, lifetime: dict[str, Any]) -> dict[str, Any] | None:
        """Give the value to all who wait, and to the cache; None where nobody was to fetch it."""
        if self._token is None:
            return None
        token, self._token = self._token, None
        return self._ask("cache.set", {**self._place, **_body(output), **lifetime, "token": token})

    def give_up(self, error: str | None) -> bytes | None:
        """Tell all who wait of an error, or let the first of them try; return an old value."""
        if self._token is None:
            return None
        token, self._token = self._token, None
        return _content(self._ask("cache.fail", {**self._place, "token": token, "error": error}))


class Room:
    """Room in the limit for one call; with `if_exists`, there may be no limit to settle with."""

    def __init__(self, ask: Ask, params: dict[str, Any]) -> None:
        self._ask = ask
        answer = ask("limit.acquire", params)
        self._reservation: int = answer["reservation"]
        self.exists: bool = not answer["absent"]

    def settle(self, used: dict[str, Any]) -> None:
        """Say what was used; what is not said was used as reserved."""
        self._ask("limit.settle", {"reservation": self._reservation, **used})

    def give_back(self) -> None:
        """Say that nothing was used."""
        self.settle({"requests": 0, "tokens": 0, "money_micros": 0})


class Permit:
    """The breaker's leave for one call."""

    def __init__(self, ask: Ask, name: str) -> None:
        self._ask = ask
        self._name = name
        self._permit: int = ask("breaker.acquire", {"name": name})["permit"]

    def settle(self, outcome: str, retry_after_ms: int | None = None) -> None:
        """Say how the call ended."""
        params = {"name": self._name, "permit": self._permit, "outcome": outcome}
        if retry_after_ms is not None:
            params["retry_after_ms"] = retry_after_ms
        self._ask("breaker.settle", params)


class Afterwards:
    """Says to the daemon what is to be said after the command; what fails is a note."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def tell(self, what: Callable[[], object]) -> object:
        """Do it, and return what came of it, None if nothing did."""
        try:
            return what()
        except SuperezioError as error:
            self._note(f"superezioctl guard: the daemon could not be told: {error.message}")
            return None


def _body(output: bytes) -> dict[str, str]:
    data = base64.b64encode(output).decode()
    try:
        text = output.decode()
    except UnicodeDecodeError:
        return {"data": data}
    # What is hardly text is written with escapes, which may take six times as much.
    return {"text": text} if len(json.dumps(text)) <= len(data) else {"data": data}


def _content(answer: dict[str, Any]) -> bytes | None:
    text, data = answer.get("text"), answer.get("data")
    if text is not None:
        return str(text).encode()
    return None if data is None else base64.b64decode(data)


def asking(call: Callable[..., bytes], *, wait_s: float) -> Ask:
    """Return what makes calls that may take `wait_s` on purpose."""

    def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
        patient = params.get("wait_ms", 0) > 0
        result: dict[str, Any] = json.loads(
            call(method, params, wait_s=wait_s if patient else 0.0, retry=False)
        )
        return result

    return ask
