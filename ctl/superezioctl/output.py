"""What superezioctl prints: one JSON document for programs, or text for people."""

from __future__ import annotations

import os
import sys

from superezioctl.columns import columns_of, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO, TextIO

_SGR = {
    "bold": "1",
    "dim": "2",
    "bad": "1;31",
    "good": "32",
    "warn": "33",
    "note": "36",
    "selected": "7",
}

_CODES = frozenset({"0"}.union(*(codes.split(";") for codes in _SGR.values())))

#: Width where there is no terminal to ask.
DEFAULT_WIDTH = 80
#: Of a column that is cut as much is left as tells one row from the next.
_LEAST_COLUMNS = 5
_BETWEEN_COLUMNS = 2


class OutputError(Exception):
    """Standard output cannot be written to; the message says why."""


class Output:
    """Standard output and error of one run.

    With `json`, standard output gets the document alone; notes go to standard error either way.
    Colour is for terminals only, and not where NO_COLOR is set or TERM is dumb.
    """

    def __init__(
        self, *, json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.json = json
        self._stdout = stdout if stdout is not None else sys.stdout
        self._stderr = stderr if stderr is not None else sys.stderr
        self.colour = not json and is_colourful(self._stdout)
        self.unicode = "utf" in (self._stdout.encoding or "").lower()

    @property
    def width(self) -> int:
        """The columns of the terminal, or of none."""
        try:
            return os.get_terminal_size(self._stdout.fileno()).columns or DEFAULT_WIDTH
        except (OSError, ValueError):
            return DEFAULT_WIDTH

    @property
    def on_terminal(self) -> bool:
        """Whether a person looks at standard output as it comes."""
        return self._stdout.isatty()

    @property
    def interactive(self) -> bool:
        """Whether a person looks at standard error as it comes, and a line can be written over."""
        return self._stderr.isatty() and not self.json and not _is_dumb()

    def document(self, raw: bytes) -> None:
        """Print one JSON document: as it came, or to a terminal with indentation."""
        put(self._stdout, f"{self._json(raw, indent=2 if self._stdout.isatty() else None)}\n")
        self.flush()

    def record(self, raw: bytes) -> None:
        """Print one line of JSON Lines, at once."""
        put(self._stdout, f"{self._json(raw, indent=None)}\n")
        self.flush()

    def line(self, text: str = "") -> None:
        """Print a line for people."""
        put(self._stdout, f"{harmless(text)}\n")

    def paragraph(self, text: str, *, indent: int = 4) -> None:
        """Print a line for people; a terminal that is narrower gets it broken between words.

        What follows the first line is indented. Programs such as grep get it in one line. It is one
        whatever is in it: the command line of a process may hold the end of a line, and a next.
        """
        text = text.replace("\n", " ")
        for part in broken(text, self.width, indent) if self.on_terminal else (text,):
            self.line(part)

    def raw(self, text: str) -> None:
        """Print text of our own that a program reads, tabs included."""
        put(self._stdout, text)

    def value(self, data: bytes) -> None:
        """Print what is somebody's as it is: bytes, to a terminal too, and nothing after them."""
        flush(self._stdout)
        put_bytes(self._stdout.buffer, data)

    def flush(self) -> None:
        """Let out what was printed."""
        flush(self._stdout)

    def note(self, text: str) -> None:
        """Print a line on standard error."""
        self._stderr.write(f"{harmless(text)}\n")
        self._stderr.flush()

    def progress(self, text: str) -> None:
        """Write over the line on standard error; an empty text clears it."""
        self._stderr.write(f"\r\x1b[K{harmless(text)}")
        self._stderr.flush()

    def style(self, text: str, *names: str) -> str:
        """Return `text` in the given styles, where colour is on."""
        if not self.colour or not names or not text:
            return text
        return f"\x1b[{';'.join(_SGR[name] for name in names)}m{text}\x1b[0m"

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[int] = (),
        spare: Sequence[int] = (),
        cut: int | Sequence[int] = (),
        indent: str = "",
    ) -> None:
        """Print columns as wide as they need; those in `right` are aligned to the right.

        On a terminal that is too narrow the columns in `spare` are left out, the first one first,
        and then the one that is `cut`, or the first of those that are, then the next, is given what
        room there is. What is cut has no style. Rows that are too long even so are broken between
        cells.
        """
        lines = [[cell.replace("\n", " ") for cell in row] for row in (header, *rows)]
        widths = [max(map(printed_width, column)) for column in zip(*lines, strict=True)]
        shown = list(range(len(header)))
        if self.on_terminal:
            room = self.width - len(indent)
            shown = _as_fit(widths, room, spare)
            for column in (cut,) if isinstance(cut, int) else cut:
                over = _taken(widths, shown) - room
                if over > 0 and column in shown:
                    widths[column] = min(widths[column], max(_LEAST_COLUMNS, widths[column] - over))
                    for row in lines:
                        row[column] = shortened(row[column], widths[column])
        for number, row in enumerate(lines):
            cells = []
            for column in shown:
                text = row[column]
                gap = " " * (widths[column] - printed_width(text))
                cells.append(gap + text if column in right else text + gap)
            line = (" " * _BETWEEN_COLUMNS).join(cells).rstrip()
            self.paragraph(indent + (self.style(line, "dim") if number == 0 else line))

    def _json(self, raw: bytes, *, indent: int | None) -> str:
        """Return a document as it came, unless it is to be indented or has to be all ASCII.

        What a terminal would act on is escaped in either case: programs hand on what they read.
        """
        if indent is None and (self.unicode or raw.isascii()):
            text = raw.decode()
        else:
            import json  # noqa: PLC0415 - programs, who do not read from terminals, need none

            text = json.dumps(json.loads(raw), indent=indent, ensure_ascii=not self.unicode)
        if text.isprintable():
            return text
        from superezio.json_text import shown_json  # noqa: PLC0415 - as above

        return shown_json(text)


def _taken(widths: Sequence[int], shown: Sequence[int]) -> int:
    """Return how wide a table of these columns is."""
    return sum(widths[column] for column in shown) + _BETWEEN_COLUMNS * (len(shown) - 1)


def _as_fit(widths: Sequence[int], room: int, spare: Sequence[int]) -> list[int]:
    """Return the columns that are left when there is not room for all."""
    shown = list(range(len(widths)))
    for column in spare:
        if _taken(widths, shown) <= room:
            break
        shown.remove(column)
    return shown


def broken(text: str, width: int, indent: int) -> list[str]:
    """Return `text` in lines of up to `width` columns; a word that is longer stays whole."""
    lines: list[str] = []
    line = ""
    for number, word in enumerate(text.split(" ")):
        longer = f"{line} {word}" if number else word
        if line.strip() and printed_width(longer.rstrip()) > width:
            lines.append(line.rstrip())
            longer = " " * indent + word
        line = longer
    return [*lines, line]


def put(stream: TextIO, text: str) -> None:
    """Print `text` as it is. Raises BrokenPipeError or OutputError."""
    try:
        stream.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(error) from error


def put_bytes(stream: BinaryIO, data: bytes) -> None:
    """Print `data` as it is, at once. Raises BrokenPipeError or OutputError."""
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(error) from error


def flush(stream: TextIO) -> None:
    """Let out what was printed. Raises BrokenPipeError or OutputError."""
    try:
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(error) from error


def _cannot_write(error: OSError) -> OutputError:
    return OutputError(f"cannot write to standard output: {error.strerror}")


def is_colourful(stream: TextIO) -> bool:
    """Say whether colour is welcome on a stream."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not _is_dumb()


def _is_dumb() -> bool:
    return os.environ.get("TERM", "") == "dumb"


def printed_width(text: str) -> int:
    """Return how many columns `text` takes, colour left out."""
    return sum(columns_of(rest) for _, rest in _pieces(text))


def plain(text: str) -> str:
    """Return `text` without its styles."""
    return "".join(rest for _, rest in _pieces(text))


def harmless(text: str) -> str:
    """Return `text` with our own styles, and `?` for all else that a terminal would act on.

    Names and command lines are chosen by other users, and may hold anything.
    """
    if text.isprintable():
        return text
    return "".join(style + rest for style, rest in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield the styles in `text`, each with the printable text after it."""
    first, *others = text.split("\x1b[")
    yield "", _printable(first)
    for other in others:
        codes, end, rest = other.partition("m")
        if end and _CODES.issuperset(codes.split(";")):
            yield f"\x1b[{codes}m", _printable(rest)
        else:
            yield "", "?[" + _printable(other)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)
