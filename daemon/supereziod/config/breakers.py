"""The sections of circuit breakers: the rules of all, bounds, and what several users share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field
from msgspec.structs import fields

from superezio import wire
from superezio.resilience.breaker_rules import BreakerRules
from supereziod.config.section import Section, Shared, key_of
from supereziod.resilience.breaker_settings import BreakerLimits, configured_rules
from supereziod.resilience.sharing import is_name


class SharedBreaker(Shared, frozen=True):
    """Who shares a breaker, and which of its rules differ from those of [breaker]."""

    window_calls: int | None = None
    window_s: float | None = None
    minimum_calls: int | None = None
    failure_rate: float | None = None
    slow_call_rate: float | None = None
    slow_call_s: float | None = None
    open_s: float | None = None
    open_limit_s: float | None = None
    half_open_calls: int | None = None
    half_open_wait_s: float | None = None
    healthy_interval_s: float | None = None
    permit_s: float | None = None
    block_limit_s: float | None = None


class Breaker(Section, frozen=True):
    """The rules of every breaker for which nothing else is said."""

    window_calls: Annotated[
        int | None,
        Meta(description="The last so many calls count; 100 unless a window is set, ..."),
    ] = None
    window_s: Annotated[
        float | None, Meta(description="... or those of the last so many whole seconds, instead.")
    ] = None
    minimum_calls: Annotated[
        int, Meta(description="With fewer calls than this nothing is decided.")
    ] = 20
    failure_rate: Annotated[
        float, Meta(description="A breaker opens where this part of the calls failed ...")
    ] = 0.5
    slow_call_rate: Annotated[float, Meta(description="... or this part was slow, ...")] = 1.0
    slow_call_s: Annotated[float, Meta(description="... which is to take longer than this.")] = 60.0
    open_s: Annotated[
        float, Meta(description="It stays open for this long, twice as long each time again, ...")
    ] = 30.0
    open_limit_s: Annotated[float, Meta(description="... up to this.")] = 300.0
    healthy_interval_s: Annotated[
        float, Meta(description="Closed for this long, it is forgiven one doubling.")
    ] = 60.0
    half_open_calls: Annotated[
        int, Meta(description="So many calls then decide whether it closes or opens again, ...")
    ] = 3
    half_open_wait_s: Annotated[
        float | None,
        Meta(description="... within this time; as long as it was open, unless it is set."),
    ] = None
    permit_s: Annotated[
        float, Meta(description="A call that has not come back after this is not counted.")
    ] = 600.0
    block_limit_s: Annotated[
        float, Meta(description="A service that says when to come back is believed up to this.")
    ] = 900.0
    breakers_per_uid: Annotated[
        int, Meta(ge=1, description="Breakers of one user, shared ones not counted.")
    ] = 256
    permits_per_connection: Annotated[
        int, Meta(ge=1, description="Calls of one connection at a time ...")
    ] = 1024
    permits_per_uid: Annotated[int, Meta(ge=1, description="... and of one user.")] = 8192
    idle_s: Annotated[
        float,
        Meta(ge=1, description="A user's own breaker that nobody used for this long is forgotten."),
    ] = field(default=3600.0, name="idle_timeout")
    shared: dict[str, SharedBreaker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse rules that cannot work, and names that nothing can have."""
        self.shared_rules()

    def rules(self) -> BreakerRules:
        """Return the rules of all others, as the part takes them. Raises ValueError."""
        return _rules(self, BreakerRules())

    def shared_rules(self) -> dict[str, BreakerRules]:
        """Return those of the shared ones, by name. Raises ValueError."""
        default = self.rules()
        found = {}
        for name, shared in self.shared.items():
            if not is_name(name):
                raise ValueError(
                    f"shared.{name[:80]!r} is no name: it has 1 to 64 letters, digits or any of"
                    " . _ : / -, and begins with a letter or a digit"
                )
            try:
                found[name] = _rules(shared, default)
            except ValueError as error:
                raise ValueError(f"shared.{name}: {error}") from None
        return found

    def limits(self) -> BreakerLimits:
        """Return what one user may take."""
        return BreakerLimits(
            breakers_per_uid=self.breakers_per_uid,
            permits_per_connection=self.permits_per_connection,
            permits_per_uid=self.permits_per_uid,
            idle_s=self.idle_s,
        )


def _rules(section: Breaker | SharedBreaker, default: BreakerRules) -> BreakerRules:
    values = {each.name: getattr(section, each.name) for each in fields(wire.BreakerRules)}
    window_s = values["window_s"]
    if window_s is not None and not float(window_s).is_integer():
        raise ValueError(f"window is {window_s:g}: it has to be whole seconds")
    values["window_s"] = None if window_s is None else int(window_s)
    return configured_rules(wire.BreakerRules(**values), default, called=key_of)
