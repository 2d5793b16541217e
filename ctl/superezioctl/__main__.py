"""The process of superezioctl."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code.

    Given words, this is a guest in somebody else's process, and leaves its signals and streams be.
    """
    if words is not None:
        from superezioctl import command_line  # noqa: PLC0415 - see below

        return command_line.run(words)
    # Before all other imports: an interrupt in the middle of one ends in a traceback, or worse.
    from superezioctl import interrupts  # noqa: PLC0415 - see above

    interrupts.end_the_process()
    from superezioctl import streams  # noqa: PLC0415 - see above

    streams.settle()
    from superezioctl import command_line, exit_codes  # noqa: PLC0415 - see above

    code = command_line.run(sys.argv[1:])
    if isinstance(code, exit_codes.KilledBy):
        interrupts.die_of(code.signal)
    return code


if __name__ == "__main__":
    sys.exit(main())
