"""superezio: what the daemon and its clients share.

Names are imported on first use, so that a command that needs one constant does not pay for all
of them.
"""

__version__ = "0.1.0"

#: The number of the wire protocol. Additive changes keep it; `system.info` reports it.
PROTOCOL = 1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezio.aio import AsyncClient
    from superezio.client import Client
    from superezio.errors import SuperezioError

__all__ = ["PROTOCOL", "AsyncClient", "Client", "SuperezioError", "__version__"]

_HOMES = {
    "AsyncClient": "superezio.aio",
    "Client": "superezio.client",
    "SuperezioError": "superezio.errors",
}


if not TYPE_CHECKING:  # a type checker is to know the names there are, and no others

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - paid for by those who ask

        return getattr(import_module(home), name)
