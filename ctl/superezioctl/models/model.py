"""What a model's file may say: the command, what it needs of GPUs, and when it is ready."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from superezio.in_short import in_short

#: Where the files are: NAME.toml is what superezio-model@NAME.service runs.
DIRECTORY: Final = "/etc/superezio/models"
#: As a file's name and as a unit's: nothing in it that systemd would escape or a path go by.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_LAST_PORT: Final = 65535


def is_name(text: str) -> bool:
    """Whether a model may be called that."""
    return _NAME.fullmatch(text) is not None


def names(directory: Path) -> list[str]:
    """Return the names of the models that have a file. Raises OSError."""
    return sorted(
        name.removesuffix(".toml")
        for name in (each.name for each in directory.iterdir())
        if name.endswith(".toml") and is_name(name.removesuffix(".toml"))
    )


def unit_of(name: str) -> str:
    """Return the unit that runs a model."""
    return f"superezio-model@{name}.service"


def key_of(name: str) -> str:
    """Return the key in the file of a field: the name without its unit."""
    return name.removesuffix("_bytes").removesuffix("_s")


class Ready(Struct, frozen=True, kw_only=True, rename=key_of):
    """When the server serves: a TCP port takes a connection, or a command ends with 0."""

    tcp: Annotated[str | None, Meta(examples=["127.0.0.1:8080"])] = None
    command: list[str] | None = None
    timeout_s: Annotated[float, Meta(gt=0)] = 300.0

    def __post_init__(self) -> None:
        if (self.tcp is None) == (self.command is None):
            raise ValueError("give one of tcp and command")
        if self.command is not None and not self.command:
            raise ValueError("command is empty: it needs the program, at least")
        if self.tcp is not None:
            _host_and_port(self.tcp)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where to connect, if that tells."""
        return None if self.tcp is None else _host_and_port(self.tcp)

    @property
    def in_words(self) -> str:
        """What is waited for."""
        if self.tcp is not None:
            return f"an answer on {self.tcp}"
        return f"`{' '.join(self.command or ())}` to succeed"


class Model(Struct, frozen=True, kw_only=True, rename=key_of):
    """One file. What the lease is to be is named as the options of `superezioctl run` are."""

    command: list[str]
    vram_bytes: int
    gpus: int | None = None
    split: bool = False
    policy: Literal["best_fit", "spread", "exclusive", "coolest"] = "best_fit"
    prefer: list[str] = field(default_factory=list)
    avoid: list[str] = field(default_factory=list)
    priority: int = 0
    sizes_itself: bool = False
    wait_s: Annotated[float, Meta(ge=0)] = 600.0
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    ready: Ready | None = None

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command is empty: it needs the program, at least")
        if self.vram_bytes <= 0:
            raise ValueError("vram has to be more than zero")
        if self.gpus is not None and self.gpus < 1:
            raise ValueError("gpus has to be 1 or more")
        if self.split and self.gpus == 1:
            raise ValueError("split is over several GPUs, and gpus is 1: leave one of them out")
        if self.working_directory is not None and not self.working_directory.startswith("/"):
            raise ValueError("working_directory has to begin at the root: /srv/models")
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"environment cannot have {in_short(name)}")


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= _LAST_PORT:
        raise ValueError(
            f"cannot use {in_short(text)} as tcp: write it like 127.0.0.1:8080 or [::1]:8080"
        )
    return host.strip("[]") or "127.0.0.1", int(port)
