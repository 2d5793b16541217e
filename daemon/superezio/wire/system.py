"""The daemon itself, and the configuration it runs by."""

from __future__ import annotations

from superezio.wire.message import Params, Result, Role


class Pong(Result):
    pid: int
    uptime_s: float


class SystemInfo(Result):
    version: str
    protocol: int
    pid: int
    started_at: str
    uptime_s: float
    gpu_driver: str
    driver_version: str | None
    cuda_version: str | None
    socket: str
    runtime_dir: str
    state_dir: str
    config_files: list[str]
    log_level: str
    uid: int
    role: Role
    connections: int
    requests: int


class ReloadResult(Result):
    """What a reload did: keys in force at once, and keys that wait for a restart.

    `warnings`: users and groups that the files name and this host does not know, each in a
    sentence with file, line and key. They have no rights and no quota until a reload finds them.
    """

    applied: list[str]
    restart_required: list[str]
    config_files: list[str]
    warnings: list[str] = []


class LogLevelParams(Params):
    """`level` None asks; otherwise one of debug, info, warning, error, critical."""

    level: str | None = None


class LogLevelResult(Result):
    level: str
    previous: str
