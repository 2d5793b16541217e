"""What docs/operations.md tells root to type, section by section."""

from __future__ import annotations

from pathlib import Path

from markdown_blocks import commands_of
from system.machine import Machine

_TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
#: Of these the exit code says how things stand, and not that they failed.
_MAY_FAIL = ("systemctl status ", "journalctl -k ", "pkill ")


def commands_under(heading: str) -> list[str]:
    """Return the commands of a section, those of anyone and of root, in their order."""
    section = _TEXT.split(f"\n{heading}\n")[1].split("\n##")[0]
    return [
        command
        for block in section.split("```console\n")[1:]
        for line in block.split("```")[0].splitlines()
        for command in commands_of(line, line[:1])
        if line[:1] in "$#"
    ]


def type_in(machine: Machine, command: str) -> str:
    """Type one in as root, and return what it prints. Raises MachineError if it fails."""
    may_fail = command.startswith(_MAY_FAIL)
    return machine.run("bash", "-euc", command, check=not may_fail).stdout
