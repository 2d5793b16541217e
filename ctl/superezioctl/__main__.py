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
    if words is None:
        # Before all other imports: an interrupt in the middle of one ends in a traceback, or worse.
        from superezioctl import interrupts  # noqa: PLC0415 - see above

        interrupts.end_the_process()
        from superezioctl import streams  # noqa: PLC0415 - see above

        streams.settle()
        words = sys.argv[1:]
    from superezioctl import command_line  # noqa: PLC0415 - see above

    return command_line.run(words)


if __name__ == "__main__":
    sys.exit(main())
