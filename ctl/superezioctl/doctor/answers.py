"""What the daemon says to doctor, or why it says nothing."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from superezio.errors import SuperezioError
from superezio.wire import Gpu, GpuList, Health, SystemInfo
from superezioctl.caller import Caller

#: A daemon that takes longer is one that does not answer.
_PATIENCE_S = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """All is None, but `error`, where the daemon did not answer."""

    system: SystemInfo | None = None
    health: Health | None = None
    gpus: list[Gpu] | None = None
    error: SuperezioError | None = None


def ask(socket_path: str, *, timeout_s: float) -> Answers:
    """Ask the daemon for all that doctor needs, in `timeout_s` at most, or a few seconds."""
    caller = Caller(socket_path=socket_path, timeout_s=min(timeout_s, _PATIENCE_S))
    try:
        return Answers(
            system=msgspec.json.decode(caller.call("system.info", retry=False), type=SystemInfo),
            health=msgspec.json.decode(caller.call("health.get", retry=False), type=Health),
            gpus=msgspec.json.decode(caller.call("gpu.list", retry=False), type=GpuList).gpus,
        )
    except SuperezioError as error:
        return Answers(error=error)
    except msgspec.ValidationError as error:
        return Answers(error=SuperezioError(f"its answer is not one of this version: {error}"))
    finally:
        caller.close()
