"""One run of libFuzzer over one target, in a process that it ends: `python -m fuzz.engine TARGET`.

The daemon's code is instrumented as it is imported, so that an input counts that reaches code which
none has reached before.
"""

from __future__ import annotations

import random
import sys
from typing import Final

import atheris

with atheris.instrument_imports(include=["superezio", "supereziod"]):
    from fuzz.targets import TARGETS

from fuzz.mutating import Mutator

#: How much of an input is changed with no regard to what it says, ...
BLIND: Final = {"framing": 0.5, "requests": 0.1}
#: ... and how much of its beginning is no text.
HEAD_BYTES: Final = {"framing": 2, "requests": 0}


def main() -> None:
    """Run until libFuzzer is done; it ends the process."""
    target, *options = sys.argv[1:]
    mutator = Mutator()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        # Now and then as libFuzzer does it, with what it has learned of comparisons.
        if chance.random() < BLIND[target]:
            mutated: bytes = atheris.Mutate(data, max_size)
            return mutated
        head = HEAD_BYTES[target]
        return bytes(data[:head]) + mutator.mutate(bytes(data[head:]), max_size - head, chance)

    atheris.Setup(
        [sys.argv[0], *options], TARGETS[target], custom_mutator=mutate, internal_libfuzzer=True
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
