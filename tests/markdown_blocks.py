"""What stands in the code blocks of a page, so that it can be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the blocks in a language."""
    return (block for found, block in all_blocks(page) if found == language)


def all_blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each block after its language."""
    for match in _BLOCK.finditer(page.read_text()):
        yield match[1], match[2]


def commands(page: Path, prompt: str) -> list[str]:
    """Return the lines of all console blocks behind a prompt: `$` for anyone, `#` for root."""
    return [line for block in blocks(page, "console") for line in commands_of(block, prompt)]


def commands_of(block: str, prompt: str) -> list[str]:
    """Return the lines of one console block behind a prompt."""
    return [
        line.removeprefix(prompt).strip() for line in block.splitlines() if line.startswith(prompt)
    ]
