"""The scenario of a simulation: which cards are there, and what happens to them when.

A TOML file::

    ambient_c = 25
    vram_return_delay = "2s"        # the driver shows VRAM as used for so long after a death

    [[gpu]]
    profile = "RTX 3060"            # supereziod.gpu.profiles has the names
    [[gpu]]
    profile = "RTX 2060"
    vram = "6GiB"                   # optional: another size than the profile's

    [[gpu]]
    profile = "A100 80GB"
    instances = ["3g.40gb", "1g.10gb"]  # optional: cut up with MIG

    [[event]]
    at = "5s"                       # after the start of the daemon
    gpu = 0                         # the slot above, counted from 0
    kind = "temperature"
    celsius = 95
    for = "30s"                     # optional: without it, for ever

Kinds and their keys: `temperature` celsius (at once) · `heat` celsius, over (a ramp to it) ·
`load` percent · `foreign` vram (in use by no process that the driver names) · `hang` (every call
for the GPU blocks) · `lost` (calls answer "GPU is lost") · `vanish` (lost, and a driver opened
anew does not list it) · `back` (ends the three before) · `ecc` count · `xid` xid (once) · `mig`
instances (cut anew into these) · `mig_forbidden` (its instances may not be read) · and of the
driver as a whole, with no `gpu`: `no_driver`, `version_mismatch`, `driver_back`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct

from superezio.quantities import parse_duration, parse_size
from supereziod.gpu.hardware import ComputeMode
from supereziod.gpu.mig_sizes import check_mig_sizes
from supereziod.gpu.profiles import PROFILES, find_profile

FOREVER_NS: Final = 1 << 62


class ScenarioError(ValueError):
    """The scenario cannot be used; the message names the file, the line and the key."""


def _check(key: str, parse: Any, text: str | None) -> None:  # noqa: ANN401 - either parser
    try:
        if text is not None:
            parse(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class CardSection(_Section, frozen=True, kw_only=True):
    """`[[gpu]]`."""

    profile: str
    vram: str | None = None
    mig: bool = False
    compute_mode: ComputeMode = "default"
    process_memory: bool = True
    display: bool = False
    instances: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if find_profile(self.profile) is None:
            raise ValueError(f"profile: no {self.profile!r}; there are {', '.join(PROFILES)}")
        _check("vram", parse_size, self.vram)
        if self.instances:
            self.check_instances(self.instances)

    def check_instances(self, instances: tuple[str, ...]) -> None:
        """Raise ValueError unless the card can be cut into these."""
        profile = find_profile(self.profile)
        if profile is not None:
            try:
                check_mig_sizes(instances, profile, self.vram_bytes or profile.vram_bytes)
            except ValueError as error:
                raise ValueError(f"instances: {error}") from error

    @property
    def vram_bytes(self) -> int | None:
        """The size that replaces the profile's, if there is one."""
        return parse_size(self.vram) if self.vram is not None else None


class Happening(_Section, frozen=True, kw_only=True, tag_field="kind"):
    """`[[event]]`: what happens at `at`, and for how long."""

    of_driver: ClassVar[bool] = False

    at: str
    gpu: int | None = None
    for_: str | None = msgspec.field(default=None, name="for")

    def __post_init__(self) -> None:
        _check("at", parse_duration, self.at)
        _check("for", parse_duration, self.for_)
        if self.of_driver and self.gpu is not None:
            raise ValueError("gpu: the driver as a whole has no gpu")
        if not self.of_driver and self.gpu is None:
            raise ValueError("gpu: missing")

    @property
    def start_ns(self) -> int:
        """When it begins, after the start."""
        return round(parse_duration(self.at) * 1e9)

    @property
    def end_ns(self) -> int:
        """When it ends, after the start."""
        return self.start_ns + (round(parse_duration(self.for_) * 1e9) if self.for_ else FOREVER_NS)


class Temperature(Happening, frozen=True, kw_only=True, tag="temperature"):
    celsius: float


class Heat(Happening, frozen=True, kw_only=True, tag="heat"):
    celsius: float
    over: str = "20s"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("over", parse_duration, self.over)


class Load(Happening, frozen=True, kw_only=True, tag="load"):
    percent: int


class Foreign(Happening, frozen=True, kw_only=True, tag="foreign"):
    vram: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("vram", parse_size, self.vram)


class Hang(Happening, frozen=True, kw_only=True, tag="hang"):
    pass


class Lost(Happening, frozen=True, kw_only=True, tag="lost"):
    pass


class Vanish(Happening, frozen=True, kw_only=True, tag="vanish"):
    pass


class Back(Happening, frozen=True, kw_only=True, tag="back"):
    pass


class Ecc(Happening, frozen=True, kw_only=True, tag="ecc"):
    count: int


class XidEvent(Happening, frozen=True, kw_only=True, tag="xid"):
    xid: int


class Mig(Happening, frozen=True, kw_only=True, tag="mig"):
    instances: tuple[str, ...]


class MigForbidden(Happening, frozen=True, kw_only=True, tag="mig_forbidden"):
    pass


class NoDriver(Happening, frozen=True, kw_only=True, tag="no_driver"):
    of_driver = True


class VersionMismatch(Happening, frozen=True, kw_only=True, tag="version_mismatch"):
    of_driver = True


class DriverBack(Happening, frozen=True, kw_only=True, tag="driver_back"):
    of_driver = True


AnyHappening = (
    Temperature
    | Heat
    | Load
    | Foreign
    | Hang
    | Lost
    | Vanish
    | Back
    | Ecc
    | XidEvent
    | Mig
    | MigForbidden
    | NoDriver
    | VersionMismatch
    | DriverBack
)


class Scenario(Struct, frozen=True, kw_only=True):
    """A scenario that was read and checked."""

    cards: tuple[CardSection, ...]
    events: tuple[AnyHappening, ...] = ()
    ambient_c: float = 25.0
    vram_return_delay_s: float = 0.0


#: The host of the README: a GPU that fits a model of 8 GiB, and one that does not.
DEFAULT: Final = Scenario(cards=(CardSection(profile="RTX 3060"), CardSection(profile="RTX 2060")))

_TOP_KEYS: Final = ("gpu", "event", "ambient_c", "vram_return_delay")


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises ScenarioError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot read the scenario {path}: {error}") from error
    return parse_scenario(text, source=str(path))


def parse_scenario(text: str, *, source: str = "scenario") -> Scenario:
    """Return the scenario that `text` describes. Raises ScenarioError."""
    reader = _Reader(text, source)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source}: {error}") from error
    for key in raw:
        if key not in _TOP_KEYS:
            raise reader.error("", 0, f"{key}: no such key; there are {', '.join(_TOP_KEYS)}")
    cards = tuple(
        reader.convert(section, CardSection, "gpu", number)
        for number, section in enumerate(_sections(raw, "gpu", reader))
    )
    events = tuple(
        reader.convert(section, AnyHappening, "event", number)
        for number, section in enumerate(_sections(raw, "event", reader))
    )
    scenario = Scenario(
        cards=cards or DEFAULT.cards,
        events=events,
        ambient_c=reader.number(raw, "ambient_c", 25.0),
        vram_return_delay_s=reader.duration(raw, "vram_return_delay", 0.0),
    )
    for number, event in enumerate(events):
        if event.gpu is not None and not 0 <= event.gpu < len(scenario.cards):
            raise reader.error(
                "event",
                number,
                f"gpu: {event.gpu} is not a slot from 0 to {len(scenario.cards) - 1}",
            )
        if isinstance(event, Mig):
            try:
                scenario.cards[event.gpu or 0].check_instances(event.instances)
            except ValueError as error:
                raise reader.error("event", number, str(error)) from error
    return scenario


class _Reader:
    """Turns tables into values, and says where in the text a bad one stands."""

    def __init__(self, text: str, source: str) -> None:
        self._lines = text.splitlines()
        self._source = source

    def convert(self, section: Any, type_: Any, table: str, number: int) -> Any:  # noqa: ANN401 - msgspec takes unions
        try:
            return msgspec.convert(section, type_, strict=True)
        except msgspec.ValidationError as error:
            raise self.error(table, number, _plain(str(error))) from error

    def number(self, raw: dict[str, Any], key: str, default: float) -> float:
        value = raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error("", 0, f"{key}: expected a number")
        return float(value)

    def duration(self, raw: dict[str, Any], key: str, default: float) -> float:
        value = raw.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error("", 0, f"{key}: expected text like 2s")
        try:
            return parse_duration(value)
        except ValueError as error:
            raise self.error("", 0, f"{key}: {error}") from error

    def error(self, table: str, number: int, problem: str) -> ScenarioError:
        key = problem.split(":", 1)[0]
        line = self._line_of(table, number, key)
        where = f"[[{table}]] number {number + 1}, " if table else ""
        return ScenarioError(f"{self._source}, line {line}: {where}{problem}")

    def _line_of(self, table: str, number: int, key: str) -> int:
        """Return the line of the key in the table, or of the table's head."""
        head = re.compile(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]") if table else None
        seen, start = -1, 0
        for index, line in enumerate(self._lines):
            if head is not None and head.match(line):
                seen += 1
                start = index if seen == number else start
            if (head is None or seen == number) and re.match(rf"\s*{re.escape(key)}\s*=", line):
                return index + 1
        return start + 1


def _sections(raw: dict[str, Any], table: str, reader: _Reader) -> list[Any]:
    sections = raw.get(table, [])
    if not isinstance(sections, list):
        raise reader.error("", 0, f"{table}: write [[{table}]], one for each")
    return sections


def _plain(message: str) -> str:
    """Put the key first: `celsius: Expected float, got str`."""
    problem, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".")
    missing = re.fullmatch(r"Object (?:missing required|contains unknown) field `(.+)`", problem)
    if missing is not None:
        word = "missing" if "missing" in problem else "no such key here"
        return f"{missing[1]}: {word}"
    return f"{key}: {problem.replace('`', '')}" if key else problem
