"""What the daemon says, in the words of people and of the command line.

The daemon speaks of users by number, of GPUs by UUID, and of parameters by their names on the wire.
Programs get that as it is; people typed `--ttl 2d`, and know users by name.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

#: Not in the middle of a path, an option or a longer word.
_UID = re.compile(r"(?<![\w-])uid (\d+)\b")
_UUID = re.compile(r"(?:\bGPU )?\b((?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
_NUMBER = re.compile(r"(?<![\w.'])\d+(?:,\d{3})*(?:\.\d+)?(?![\w'])")


def with_users(text: str) -> str:
    """Return `text` with `uid 0` as `user root`, where the number has a name."""
    return _UID.sub(_user, text)


def with_places(text: str, places: Mapping[str, str]) -> str:
    """Return `text` with each UUID as `GPU 1`, where `places` has it."""
    return _UUID.sub(lambda m: f"GPU {places[m[1]]}" if m[1] in places else m[0], text)


def has_uuid(text: str) -> bool:
    """Say whether a GPU is named by its UUID."""
    return _UUID.search(text) is not None


def with_options(text: str, given: Container[str], *, positionals: Container[str] = ()) -> str:
    """Return a refusal of parameters in the words of the options that made them.

    `given` has the keys of what the command was given, and `positionals` the names of what has no
    option, as help has them.
    """
    for name, key, unit in _PARAMETERS:
        match = re.search(rf"(?:^|(?<=: )){name}\b(?=:| (?:has|may|cannot|is)\b)", text)
        if match is None or key not in given:
            continue
        place = key.upper()
        option = place if place in positionals else f"--{key.replace('_', '-')}"
        rest = text[match.end() :]
        if unit is not None:
            rest = _NUMBER.sub(_amount(unit), rest)
        return _BYTES.sub(_size, text[: match.start()]) + option + rest
    return text


def _user(match: re.Match[str]) -> str:
    import pwd  # noqa: PLC0415 - only where somebody is spoken of

    try:
        return f"user {pwd.getpwuid(int(match[1])).pw_name}"
    except (KeyError, OverflowError):
        return match[0]


def _size_of(number: float) -> str:
    from superezio.quantities import format_size  # noqa: PLC0415 - as above

    return f"{number:g} bytes" if number < _KIB else format_size(number)


def _seconds_of(number: float) -> str:
    from superezio.quantities import format_duration  # noqa: PLC0415 - as above

    return format_duration(number)


def _milliseconds_of(number: float) -> str:
    return _seconds_of(number / 1000)


def _amount(unit: Callable[[float], str]) -> Callable[[re.Match[str]], str]:
    return lambda match: unit(float(match[0].replace(",", ""))) if match[0] != "0" else "0"


_KIB = 1024
_BYTES = re.compile(r"\b(\d+) bytes\b")


def _size(match: re.Match[str]) -> str:
    return _size_of(int(match[1]))


#: A parameter, the key of the option that sets it, and how its figures are written for people.
_PARAMETERS: tuple[tuple[str, str, Callable[[float], str] | None], ...] = (
    ("vram_bytes", "vram", _size_of),
    ("ttl_ms", "ttl", _milliseconds_of),
    ("wait_ms", "wait", _milliseconds_of),
    ("since_s", "since", _seconds_of),
    ("deadline_s", "deadline", _seconds_of),
    ("count", "gpus", None),
    ("holder_pid", "pid", None),
    ("min_compute_capability", "min_compute_capability", None),
    ("compute_mode", "compute_mode", None),
    ("priority", "priority", None),
    ("model", "model", None),
    ("name", "name", None),
    ("namespace", "namespace", None),
    ("cache_key", "cache_key", None),
    ("key", "key", None),
    ("reason", "reason", None),
    ("message", "message", None),
    ("replay", "replay", None),
    ("types", "type", None),
)
