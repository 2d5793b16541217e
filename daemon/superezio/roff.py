"""Manual pages, as man(7) roff: what the generated pages are written with.

Text is plain, and in it `code` is set bold, *emphasis* italic. Whatever else roff would read as its
own is escaped, so that a page shows what was given, and what is copied from it can be run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from superezio import __version__

_ESCAPES: Final = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    '"': r"\(dq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}
# A character that a line may not begin with, where it is text.
_CONTROLS: Final = ".'"
_STYLED: Final = re.compile(r"`(?P<code>[^`]+)`|(?<![\w*])\*(?P<emphasis>\w[\w -]*)\*(?!\w)")
_SENTENCE_END: Final = re.compile(r"(?<=[\w)\]'`\"][.:;!?]) (?=\S)")
#: Stands for a space where no sentence ends, for what is in code.
_INNER_SPACE: Final = "\x1f"


def escape(text: str) -> str:
    """Return text as it has to stand in a page to be read as it is."""
    return "".join(_ESCAPES.get(each, each) if each.isascii() else _named(each) for each in text)


def styled(text: str) -> str:
    """Return text with its `code` in bold and its *emphasis* in italics."""
    parts: list[str] = []
    end = 0
    for match in _STYLED.finditer(text):
        code, emphasis = match["code"], match["emphasis"]
        marked = f"\\fB{escape(code)}\\fR" if code else f"\\fI{escape(emphasis)}\\fR"
        parts += [escape(text[end : match.start()]), marked]
        end = match.end()
    return "".join([*parts, escape(text[end:])])


class Page:
    """A manual page that grows from its top down; `text` is what it has come to.

    `name` and `summary` make its section NAME, `section` is the number of the manual.
    """

    def __init__(self, name: str, section: int, summary: str) -> None:
        self._lines = [
            '.\\" Made by `make docs`; changes belong into what it is made from.',
            f'.TH "{escape(name.upper())}" "{section}" "" "superezio {__version__}" "superezio"',
            # No hyphenation and no stretched spaces: what stands in a page is to be searched for.
            # Each paragraph asks the register anew.
            ".nr HY 0",
            ".nh",
            ".ad l",
        ]
        self.heading("NAME")
        self._lines.append(f"{escape(name)} \\- {escape(summary)}")

    @property
    def text(self) -> str:
        """The page as it is so far."""
        return "\n".join([*self._lines, ""])

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._lines.append(f'.SH "{escape(text)}"')

    def subheading(self, text: str) -> None:
        """Begin a part of a section."""
        self._lines.append(f'.SS "{escape(text)}"')

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._lines.append(".PP")
        self._add(text)

    def prose(self, text: str) -> None:
        """Add paragraphs, which empty lines part."""
        for each in filter(None, text.split("\n\n")):
            self.paragraph(each)

    def synopsis(self, *forms: str) -> None:
        """Add ways to call a command, a line each."""
        for form in forms:
            self._lines.append(".PP")
            self._add(form)

    def tagged(self, tag: str, *paragraphs: str) -> None:
        """Add what a word means: the word, and paragraphs set in beneath it."""
        self._lines.append(".TP")
        self._line(styled(tag))
        first, *more = paragraphs or ("",)
        self._add(first)
        for text in more:
            self._lines.append(".IP")
            self._add(text)

    def meanings(self, meanings: Mapping[str, str]) -> None:
        """Add what words mean, code all of them; `a, b` are two with one meaning."""
        for names, text in meanings.items():
            self.tagged(", ".join(f"`{name}`" for name in names.split(", ")), text)

    def bullet(self, text: str) -> None:
        """Add an entry of a list."""
        self._lines.append(r".IP \(bu 3")
        self._add(text)

    def example(self, lines: Iterable[str]) -> None:
        """Add lines that are shown as they are."""
        self._lines += [".PP", ".RS 4", ".EX"]
        for line in lines:
            self._line(escape(line))
        self._lines += [".EE", ".RE"]

    def examples(self, examples: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Add the section of examples: what each is for, and its lines."""
        self.heading("EXAMPLES")
        for text, lines in examples:
            self.paragraph(text)
            self.example(lines)

    def see_also(self, *pages: tuple[str, int]) -> None:
        """End with the section that names other pages."""
        self.heading("SEE ALSO")
        last = len(pages) - 1
        for place, (name, section) in enumerate(pages):
            comma = "" if place == last else ","
            self._lines.append(f".BR {escape(name)} ({section}){comma}")

    def _add(self, text: str) -> None:
        """Add text with a sentence a line, so that a change shows as the sentence that it is."""
        words = " ".join(text.split())
        held = _STYLED.sub(lambda match: match[0].replace(" ", _INNER_SPACE), words)
        for sentence in _SENTENCE_END.split(held):
            self._line(styled(sentence.replace(_INNER_SPACE, " ")) or r"\&")

    def _line(self, text: str) -> None:
        self._lines.append(f"\\&{text}" if text[:1] in _CONTROLS and text else text)


def _named(character: str) -> str:
    return f"\\[u{ord(character):04X}]"
