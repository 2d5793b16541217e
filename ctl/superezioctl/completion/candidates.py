"""Candidates that only the daemon knows. Fast, and silent where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from superezio.errors import SuperezioError
from superezio.quantities import format_size
from superezioctl.caller import Caller
from superezioctl.models.model import DIRECTORY, names, unit_of
from superezioctl.output import harmless

#: Somebody waits with a finger on the Tab key.
_PATIENCE_S = 0.5

#: Where candidates come from: name -> (method, member of its result).
SOURCES = {
    "gpus": ("gpu.list", "gpus"),
    "leases": ("lease.list", "leases"),
    "methods": ("rpc.discover", "methods"),
    "breakers": ("breaker.list", "breakers"),
    "limits": ("limit.list", "limits"),
    "namespaces": ("cache.stats", "namespaces"),
    "keys": ("config.get", "values"),
}
#: What may be shared, and by which member it goes.
_SHAREABLE = {"limits": "name", "namespaces": "namespace"}
#: What a method is asked with, where it is for something.
_PARAMS: dict[str, dict[str, Any]] = {"keys": {"all": True}}
#: A shell acts on other characters; nothing that is named here has them.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-/")


def ask(source: str, socket_path: str) -> list[tuple[str, str]]:
    """Return candidates and what they are; none where the daemon does not answer at once."""
    if source == "models":
        return _models()
    method, member = SOURCES[source]
    caller = Caller(socket_path=socket_path, timeout_s=_PATIENCE_S)
    try:
        entries = json.loads(caller.call(method, _PARAMS.get(source), retry=False))[member]
    except SuperezioError:
        return []
    finally:
        caller.close()
    return [
        (value, harmless(" ".join(text.split())))
        for entry in entries
        for value, text in _described(source, entry)
        if value and _PLAIN.issuperset(value)
    ]


def _models() -> list[tuple[str, str]]:
    """Return the models that have a file: the daemon does not know them."""
    try:
        return [(name, unit_of(name)) for name in names(Path(DIRECTORY))]
    except OSError:
        return []


def _described(source: str, entry: dict[str, Any]) -> list[tuple[str, str]]:
    if source == "methods":
        return [(entry["name"], entry.get("summary", ""))]
    if source == "breakers":
        return [(entry["name"], entry["state"].replace("_", "-"))]
    if source == "keys":
        return [(entry["key"], "" if entry["value"] is None else str(entry["value"]))]
    if source in _SHAREABLE:
        return [(entry[_SHAREABLE[source]], "shared" if entry["shared"] else "your own")]
    if source == "leases":
        where = "+".join("?" if gpu["index"] is None else _place(gpu) for gpu in entry["gpus"])
        reserved = "+".join(format_size(gpu["reserved_bytes"]) for gpu in entry["gpus"])
        return [(entry["id"], f"{entry['name'] or entry['mode']}: {reserved} on gpu {where}")]
    uuid = (entry["uuid"], f"gpu {_place(entry)}: {entry['name']}")
    return [(_place(entry), entry["name"]), uuid]


def _place(gpu: dict[str, Any]) -> str:
    """Return what a GPU goes by; a MIG instance as NVIDIA's tools write it, `0:1`."""
    index, part = gpu["index"], gpu.get("mig_index")
    return str(index) if part is None else f"{index}:{part}"
