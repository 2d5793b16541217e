"""superezio-rpc(7), made from the reference: `python -m supereziod.rpc.manual EXAMPLES`.

The reference is Markdown for a browser. In a terminal wide tables cannot be read, so that each row
becomes an entry; what links lead to is on the same page, and each method's example is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from superezio.paths import SYSTEM_SOCKET
from superezio.roff import Page
from supereziod.rpc.methods import METHODS
from supereziod.rpc.reference import render_reference
from supereziod.rpc.reference_head import Examples

_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_FENCE: Final = "```"
_FIRST_LIST: Final = "Methods"

Row = Sequence[str]


def render_manual(examples: Examples) -> str:
    """Return the page."""
    page = Page("superezio-rpc", 7, "the socket API of supereziod")
    page.heading("SYNOPSIS")
    page.synopsis(f"`{SYSTEM_SOCKET}`")
    page.heading("DESCRIPTION")
    _Reading(page).read(render_reference(METHODS, examples))
    page.heading("FILES")
    page.tagged(f"`{SYSTEM_SOCKET}`", "The socket of the host's daemon.")
    page.tagged("`$XDG_RUNTIME_DIR/superezio/control.sock`", "That of one that a user started.")
    page.heading("ENVIRONMENT")
    page.tagged("`SUPEREZIO_SOCKET`", "The socket, where it is another one.")
    page.heading("EXAMPLES")
    page.paragraph("Without any client but a shell's:")
    page.example(
        [
            """echo '{"jsonrpc":"2.0","id":1,"method":"health.get"}' |""",
            f"    socat - UNIX-CONNECT:{SYSTEM_SOCKET} | jq .result.verdict",
        ]
    )
    page.paragraph("The same, and the methods there are:")
    page.example(["superezioctl rpc health.get", "superezioctl rpc --list"])
    page.see_also(("superezio", 7), ("superezioctl", 1), ("supereziod", 8), ("superezio.toml", 5))
    return page.text


# --- rows of tables as entries ------------------------------------------------------------------


def _method(row: Row) -> tuple[str, str]:
    name, observer, user, _, summary = row
    return name, f"{summary} ({'anyone' if observer else 'users' if user else 'admins'})."


def _error(row: Row) -> tuple[str, str]:
    kind, code, meaning, data = row
    return f"{kind} ({code})", f"{meaning} Further data: {data}." if data else meaning


def _parameter(row: Row) -> tuple[str, str]:
    name, type_, default = row
    return name, f"{type_}, {default if default == 'required' else f'default {default}'}."


def _check(row: Row) -> tuple[str, str]:
    code, severity, action = row
    return f"{code} ({severity})", action


def _pair(row: Row) -> tuple[str, str]:
    name, meaning = row
    return name, meaning


#: By the head of a table.
_ENTRIES: Final[Mapping[tuple[str, ...], Callable[[Row], tuple[str, str]]]] = {
    ("member", "meaning"): _pair,
    ("member", "type"): _pair,
    ("code", "meaning"): _pair,
    ("type", "told when"): _pair,
    ("kind", "code", "meaning", "further `data`"): _error,
    ("method", "observer", "user", "admin", "summary"): _method,
    ("parameter", "type", "default"): _parameter,
    ("check", "severity", "action"): _check,
}
#: What is said before the entries of a method or type.
_LEADS: Final = {"parameter": "Parameters:", "member": "Members of the result or type:"}


class _Reading:
    """The reference, block by block."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._in_lists = False

    def read(self, text: str) -> None:
        """Add all of it to the page."""
        for fenced, lines in _blocks(text):
            if fenced:
                self._example(lines)
            elif lines[0].startswith("#"):
                self._heading(lines[0])
            elif lines[0].startswith("| "):
                self._table(lines)
            elif lines[0].startswith("- "):
                for entry in "\n".join(lines).removeprefix("- ").split("\n- "):
                    self._page.bullet(_LINK.sub(r"\1", entry))
            elif not lines[0].startswith("<!--"):
                self._page.paragraph(_LINK.sub(r"\1", "\n".join(lines)))

    def _heading(self, line: str) -> None:
        marks, _, text = line.partition(" ")
        self._in_lists = self._in_lists or text == _FIRST_LIST
        if marks == "##":
            self._page.heading(text.replace("`", "").upper())
        elif marks == "###":
            self._page.subheading(text)

    def _table(self, lines: list[str]) -> None:
        head, _, *rows = (line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines)
        entry = _ENTRIES[tuple(head)]
        if self._in_lists and head[0] in _LEADS:
            self._page.paragraph(_LEADS[head[0]])
        for row in rows:
            self._page.tagged(*entry([_LINK.sub(r"\1", cell.strip()) for cell in row]))

    def _example(self, lines: list[str]) -> None:
        if not self._in_lists:
            self._page.example(line.removeprefix("$ ") for line in lines)


def _blocks(text: str) -> Iterator[tuple[bool, list[str]]]:
    """Yield what stands between empty lines or fences, and whether it is fenced."""
    for number, part in enumerate(re.split(rf"^{_FENCE}.*\n", text, flags=re.MULTILINE)):
        if number % 2:
            yield True, part.splitlines()
            continue
        for kind, lines in groupby(part.splitlines(), key=_kind):
            if kind == "heading":
                yield from ((False, [line]) for line in lines)
            elif kind:
                yield False, list(lines)


def _kind(line: str) -> str:
    for mark, kind in (("#", "heading"), ("| ", "table"), ("<!--", "comment")):
        if line.startswith(mark):
            return kind
    return "text" if line else ""


if __name__ == "__main__":
    recorded = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=dict[str, dict[str, Any]])
    sys.stdout.write(render_manual(recorded))
