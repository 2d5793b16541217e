"""What is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fuzz.conversation import play
from fuzz.framing import frame

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"framing": frame, "requests": play}
