"""Amounts as people write them: `8GiB`, `60s`, `0.02`, and back."""

from __future__ import annotations

import re
from typing import Final, Literal

from superezio.in_short import in_short

#: A century: as nanoseconds it fits into 64 bits, with as much again to spare.
LONGEST_S: Final = 36_500 * 86_400
#: What fits into 64 bits, and so into JSON, SQLite and the kernel's calls.
LARGEST: Final = (1 << 63) - 1

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE | re.ASCII)
_PLAIN_SECONDS: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MONEY: Final = re.compile(r"(\d[\d_]{0,30})?(?:\.(\d{0,60}))?(?:[eE]([+-]?\d{1,2}))?", re.ASCII)
_MICRO_DIGITS: Final = 6
_MILLION: Final = 1_000_000
_CENT: Final = 10_000

#: A number without a unit is bytes from here on.
_LEAST_BARE: Final = 1 << 20


def parse_size(text: str) -> int:
    """Return the bytes that `text` names: `8GiB`, `8G`, `512MiB`, `1.5GiB`, `10000000`.

    `K M G T` and `KiB MiB GiB TiB` are powers of 1024, as memory is counted; `KB MB GB TB` are
    powers of 1000. Raises ValueError, with an example, for anything else, for zero or more than
    LARGEST, and for a bare number below a MiB: who writes `8` does not mean bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"cannot read {in_short(text)} as a size: write it like 8GiB, 512MiB or 10GB"
        )
    number, letter, binary = match.groups()
    has_byte_unit = text.strip().upper().endswith("B")
    base = 1000 if letter and has_byte_unit and not binary else 1024
    exact = float(number) * int(base ** _POWERS[letter.upper()])
    if exact > LARGEST:
        raise ValueError(f"cannot use {in_short(text)} as a size: no host has as much")
    size = round(exact)
    if size <= 0:
        raise ValueError(f"cannot use {in_short(text)} as a size: it has to be more than zero")
    if size < _LEAST_BARE and not letter and not has_byte_unit:
        raise ValueError(
            f"cannot use {in_short(text)} as a size: it would be bytes; write it with a unit,"
            " like 8GiB"
        )
    return size


def parse_duration(text: str) -> float:
    """Return the seconds that `text` names: `60s`, `1m30s`, `250ms`, `2h`, or plain seconds.

    Raises ValueError, with an example, for anything else, and for more than LONGEST_S.
    """
    stripped = text.strip()
    if _PLAIN_SECONDS.fullmatch(stripped):
        return _bounded(text, float(stripped))
    parts = _DURATION_PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise ValueError(
            f"cannot read {in_short(text)} as a duration: write it like 60s, 1m30s or 250ms"
        )
    return _bounded(text, float(sum(float(number) * _SECONDS[unit] for number, unit in parts)))


def _bounded(text: str, seconds: float) -> float:
    if seconds > LONGEST_S:
        raise ValueError(f"cannot use {in_short(text)} as a duration: it may have up to 36500d")
    return seconds


def parse_money(text: str, *, finer: Literal["refuse", "round up"] = "refuse") -> int:
    """Return the millionths that `text` names: `10.00`, `0.02`, `.5`, `2.4e-06`.

    What is finer than a millionth cannot be counted: a budget of it is refused, and a cost of it
    is rounded up. Raises ValueError, with an example, for what is no amount.
    """
    match = _MONEY.fullmatch(text.strip())
    whole, part, exponent = (
        ("", "", "") if match is None else (each or "" for each in match.groups())
    )
    if not whole + part:
        raise ValueError(f"cannot read {in_short(text)} as money: write it like 10.00 or 0.02")
    digits = int(whole.replace("_", "") + part)
    power = int(exponent or 0) + _MICRO_DIGITS - len(part)
    if power >= 0:
        return int(digits * 10**power)
    micros, rest = divmod(digits, int(10**-power))
    if rest and finer == "refuse":
        raise ValueError(
            f"cannot use {in_short(text)} as money: it has more than {_MICRO_DIGITS} decimals"
        )
    return micros + 1 if rest else micros


def format_size(size: float) -> str:
    """Return `size` bytes for people, in binary units: `8.0 GiB`, `512 MiB`."""
    if abs(size) >= 1 << 30:
        return f"{size / (1 << 30):.1f} GiB"
    if abs(size) >= 1 << 20:
        return f"{size / (1 << 20):.0f} MiB"
    return f"{size / 1024:.0f} KiB" if size else "0"


def format_duration(seconds: float) -> str:
    """Return `seconds` for people with the two largest units: `3d 4h`, `1m 30s`, `250ms`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    if not whole:
        return f"{milliseconds}ms" if milliseconds else "0s"
    whole = round(seconds)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if whole >= length:
            parts.append(f"{whole // length}{unit}")
            whole %= length
    return " ".join(parts[:2])


def format_money(micros: int, currency: str = "") -> str:
    """Return millionths as people write an amount: with cents, and more where there is more."""
    whole, part = divmod(micros, _MILLION)
    digits = f"{part // _CENT:02d}" if part % _CENT == 0 else f"{part:06d}".rstrip("0")
    return f"{whole}.{digits} {currency}".rstrip()
