"""One run of libFuzzer over one target, in a process that it ends: `python -m fuzz.engine TARGET`.

The daemon's code is instrumented as it is imported, so that an input counts that reaches code which
none has reached before.
"""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["superezio", "supereziod"]):
    from fuzz.targets import TARGETS

from fuzz.mutating import Mutator


def main() -> None:
    """Run until libFuzzer is done; it ends the process."""
    target, *options = sys.argv[1:]
    mutator = Mutator()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        # Now and then as libFuzzer does it, with what it has learned of comparisons.
        if target != "requests" or chance.random() < 0.1:  # noqa: PLR2004 - one of ten
            mutated: bytes = atheris.Mutate(data, max_size)
            return mutated
        return mutator.mutate(bytes(data), max_size, chance)

    atheris.Setup(
        [sys.argv[0], *options], TARGETS[target], custom_mutator=mutate, internal_libfuzzer=True
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
