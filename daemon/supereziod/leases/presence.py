"""Where the processes that are to hold a lease use VRAM already: a server cannot move."""

from __future__ import annotations

from msgspec import Struct


class Presence(Struct, frozen=True, kw_only=True):
    """What is there of a future holder, by GPU UUID, in the last passes.

    `foreign_bytes` is use that counts as nobody's until it holds a lease; `beyond_bytes` what it
    uses more than its leases there reserve. Either is taken from the others already, and a new
    lease only has to find room for the rest. `bound_to` are the GPUs that it uses without a lease:
    a lease that did not cover them would be of no use.
    """

    foreign_bytes: dict[str, int] = {}
    beyond_bytes: dict[str, int] = {}
    bound_to: tuple[str, ...] = ()

    def own_bytes(self, uuid: str) -> int:
        """Return what of a new lease on the GPU is in use already."""
        return self.foreign_bytes.get(uuid, 0) + self.beyond_bytes.get(uuid, 0)


NOWHERE = Presence()
