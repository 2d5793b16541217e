"""What was logged: from the journal, or from the events that the daemon remembers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec

from superezio.errors import NotFoundError, PermissionDeniedError, SuperezioError
from superezio.wire import Event, Gpu
from superezioctl.context import Context
from superezioctl.interrupts import Raised
from superezioctl.lease_ids import is_whole, only_match, resolve
from superezioctl.unit import UNIT
from superezioctl.views import events
from superezioctl.views.text import STYLES
from superezioctl.wording import with_users

#: How many past events are asked for, of which most are of something else.
_HISTORY = 4096
_PATIENCE_S = 10.0
_SEVERITY_BY_PRIORITY = {"0": "critical", "1": "critical", "2": "critical", "3": "critical"}


def show(context: Context, wanted: dict[str, str], *, lines: int, follow: bool) -> None:
    """Print records as text, as one JSON document, or when following as JSON Lines."""
    wanted = dict(wanted)
    if "gpu" in wanted:
        wanted["gpu"] = _uuid(context, wanted["gpu"])
    if "lease" in wanted:
        wanted["lease"] = _lease(context, wanted["lease"])
    journalctl = shutil.which("journalctl")
    if journalctl is not None and _readable(journalctl):
        source, records = "journal", _from_journal(journalctl, wanted, lines, follow=follow)
    elif "audit" in wanted:
        raise PermissionDeniedError(
            "the records of administrative acts are in the journal alone, and you may not read it,"
            " or the daemon does not log to it: run this as root, or join the group"
            " systemd-journal and log in again"
        )
    else:
        source, records = "events", _from_events(context, wanted, lines, follow=follow)
        if not context.out.json:
            context.out.note("(not from the journal: from the events that the daemon remembers)")
    if context.out.json and not follow:
        context.out.document(msgspec.json.encode({"source": source, "records": list(records)}))
        return
    found = False
    for record in records:
        found = True
        if context.out.json:
            context.out.record(msgspec.json.encode(record))
        else:
            _print(context, record)
    if not found:
        _tell_nothing(context, wanted)


def _tell_nothing(context: Context, wanted: dict[str, str]) -> None:
    of = ", ".join(_said(field, value) for field, value in wanted.items())
    context.out.note(f"superezioctl: nothing was logged{f' of {of}' if of else ''}")
    if "correlation_id" in wanted:
        # A call that is refused, or passes, is no event.
        id_ = wanted["correlation_id"]
        context.out.note(f"`superezioctl trace {id_}` shows what became of the request.")


def _said(field: str, value: str) -> str:
    return "administrative acts" if field == "audit" else f"{field.replace('_', ' ')} {value}"


def _uuid(context: Context, gpu: str) -> str:
    """Return the UUID of a GPU by any of its names; as given, where no daemon can tell."""
    try:
        return msgspec.json.decode(context.call("gpu.get", {"gpu": gpu}), type=Gpu).uuid
    except NotFoundError as error:
        context.out.note(f"superezioctl: {error.message}; what was logged of {gpu} is looked for")
    except SuperezioError as error:
        context.out.note(f"superezioctl: cannot ask for the UUID of gpu {gpu}: {error.message}")
    return gpu


def _lease(context: Context, text: str) -> str:
    """Return the id of a lease by its beginning, also of one that is gone; else as given."""
    try:
        (lease,) = resolve(context, [text])
        if lease == text and not is_whole(text):
            with events.follow(context, types=("lease.",), replay=_HISTORY) as stream:
                past = [item.event.lease or "" for item in islice(stream, stream.replayed)]
            lease = only_match(text, past) or text
    except SuperezioError:
        return text
    return lease


def _readable(journalctl: str) -> bool:
    """Say whether the unit's journal has anything for this user: it is just empty if not."""
    try:
        done = subprocess.run(
            [journalctl, "--quiet", "--no-pager", "--lines=1", "--output=cat", f"--unit={UNIT}"],
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _from_journal(
    journalctl: str, wanted: dict[str, str], lines: int, *, follow: bool
) -> Iterator[dict[str, Any]]:
    command = [journalctl, "--quiet", "--no-pager", "--output=json", f"--lines={lines}"]
    command += [f"--unit={UNIT}", *(["--follow"] if follow else [])]
    command += [f"{field.upper()}={value}" for field, value in wanted.items()]
    # Interrupted by itself alone, this would leave a journalctl that follows behind.
    with Raised(), subprocess.Popen(command, stdout=subprocess.PIPE) as journal:
        try:
            for line in journal.stdout or ():
                yield _journal_record(msgspec.json.decode(line))
        finally:
            journal.terminate()


def _journal_record(entry: dict[str, Any]) -> dict[str, Any]:
    microseconds = int(entry.get("__REALTIME_TIMESTAMP", 0))
    fields = {
        name.lower(): value
        for name, value in entry.items()
        if not name.startswith("_") and name not in {"MESSAGE", "PRIORITY"}
    }
    return {
        # When it was logged: one that had to wait for the journal came there later.
        "time": entry.get("LOGGED_AT") or _iso_time(microseconds),
        "severity": _severity(entry.get("PRIORITY", "6")),
        "message": _text(entry.get("MESSAGE")),
        "correlation_id": fields.get("correlation_id"),
        "lease": fields.get("lease"),
        "gpu": fields.get("gpu"),
        "fields": fields,
    }


def _iso_time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")


def _severity(priority: str) -> str:
    return _SEVERITY_BY_PRIORITY.get(priority, "warning" if priority == "4" else "info")


def _text(message: object) -> str:
    """Return a message; journalctl prints one that is not text as a list of bytes."""
    if isinstance(message, list):
        return bytes(message).decode(errors="replace")
    return str(message or "")


def _from_events(
    context: Context, wanted: dict[str, str], lines: int, *, follow: bool
) -> Iterator[dict[str, Any]]:
    with events.follow(context, types=(), replay=_HISTORY) as stream:
        past = [item.event for item in islice(stream, stream.replayed)]
        matching = [event for event in past if _matches(event, wanted)]
        yield from map(_event_record, matching[-lines:])
        if follow:
            for item in stream:
                if _matches(item.event, wanted):
                    yield _event_record(item.event)


def _matches(event: Event, wanted: dict[str, str]) -> bool:
    if wanted.get("gpu", event.gpu) not in (event.gpu, *event.data.get("gpus", ())):
        return False
    others = {field: value for field, value in wanted.items() if field != "gpu"}
    return all(getattr(event, field) == value for field, value in others.items())


def _event_record(event: Event) -> dict[str, Any]:
    return {
        "time": event.time,
        "severity": event.severity,
        "message": event.message,
        "correlation_id": event.correlation_id,
        "lease": event.lease,
        "gpu": event.gpu,
        "fields": {"event": event.type, **event.data},
    }


def _print(context: Context, record: dict[str, Any]) -> None:
    out = context.out
    style = STYLES.get(record["severity"])
    message = with_users(record["message"])
    message = out.style(message, style) if style else message
    out.line(f"{record['time']} {message}")
    out.flush()
