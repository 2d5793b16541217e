"""Where the processes that are to hold a lease use VRAM already: a server cannot move."""

from __future__ import annotations

from msgspec import Struct


class Presence(Struct, frozen=True, kw_only=True):
    """What is there of a future holder, by GPU UUID, in the last passes.

    `foreign_bytes` is use that counts as nobody's until it holds a lease; `beyond_bytes` what it
    uses more than its leases there reserve. Either is taken from the others already, and a new
    lease only has to find room for the rest. `used` are the GPUs that it uses without a lease, the
    most used first: a CUDA program often opens all it sees, and works on one.

    A process that is leased for cannot move: a lease that did not cover those would be of no use.
    One that asks for itself (`may_move`) may go on to open another GPU, or start a program there.
    """

    foreign_bytes: dict[str, int] = {}
    beyond_bytes: dict[str, int] = {}
    used: tuple[str, ...] = ()
    may_move: bool = False

    @property
    def bound_to(self) -> tuple[str, ...]:
        """The GPUs that its lease has to cover."""
        return () if self.may_move else self.used

    @property
    def uses_any(self) -> bool:
        """Whether anything of a new lease is in use already, on any GPU."""
        return bool(self.foreign_bytes or self.beyond_bytes)

    def own_bytes(self, uuid: str) -> int:
        """Return what of a new lease on the GPU is in use already."""
        return self.foreign_bytes.get(uuid, 0) + self.beyond_bytes.get(uuid, 0)


NOWHERE = Presence()
