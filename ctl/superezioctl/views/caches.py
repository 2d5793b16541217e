"""The cache as text."""

from __future__ import annotations

import msgspec

from superezio.wire import CacheCounters, CacheNamespace, CacheStats
from superezioctl.output import Output
from superezioctl.views.text import NOTHING, size, user


def show(out: Output, raw: bytes) -> None:
    """Print a line for each namespace, and what all together hold."""
    found = msgspec.json.decode(raw, type=CacheStats)
    if found.namespaces:
        header = ["NAMESPACE", "OF", "SIZE", "MAX", "ENTRIES", "MAX", "HITS", "FETCHING", "WAITING"]
        rows = list(map(_row, found.namespaces))
        out.table(header, rows, right=range(2, len(header)), spare=(5, 3, 8, 7, 4), cut=0)
    else:
        out.line("none of your programs has used the cache")
    out.paragraph(
        f"all together: {size(found.used_bytes)} of {size(found.max_bytes)}, {found.entries} of"
        f" {found.max_entries} entries"
    )


def _row(namespace: CacheNamespace) -> list[str]:
    return [
        namespace.namespace,
        "shared" if namespace.shared else user(namespace.uid),
        size(namespace.used_bytes),
        size(namespace.max_bytes),
        str(namespace.entries),
        str(namespace.max_entries),
        _hits(namespace.counters),
        str(namespace.fills),
        str(namespace.waiting),
    ]


def _hits(counters: CacheCounters) -> str:
    gets = counters.hits + counters.stale_served + counters.misses
    return f"{100 * counters.hits // gets} %" if gets else NOTHING
