"""The model of splits sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_split_model.py"]

SPLIT = "supereziod.leases.split"

MUTANTS = (
    Mutant(
        "splits over one GPU too many",
        SPLIT,
        "            return parts\n",
        "            return min(parts + 1, len(sizes))\n",
    ),
    Mutant(
        "loses the bytes that do not come out even",
        SPLIT,
        "for place in by_fraction[:uneven]:",
        "for place in by_fraction[:0]:",
    ),
    Mutant(
        "gives the bytes that do not come out even to the first",
        SPLIT,
        "        shares[place] += 1\n    return [least",
        "        shares[0] += 1\n    return [least",
    ),
    Mutant(
        "gives a GPU a part that serves nobody",
        SPLIT,
        "return max(1, min(LEAST_PART_BYTES, need // (2 * parts)))",
        "return 1",
    ),
    Mutant(
        "divides into equal parts",
        SPLIT,
        "shares = [rest * size // room if room else 0 for size in beyond]",
        "shares = [rest // len(beyond) for _ in beyond]",
    ),
    Mutant(
        "divides in proportion to all that is free",
        SPLIT,
        "beyond = [size - least for size in sizes]",
        "beyond = list(sizes)",
    ),
    Mutant(
        "tells equal ratios",
        SPLIT,
        "return [share / total for share in shares]",
        "return [1 / len(shares) for _ in shares]",
    ),
    Mutant(
        "tells llama.cpp the proportions in another order",
        SPLIT,
        'return ",".join(str(part // common) for part in parts)',
        'return ",".join(str(part // common) for part in sorted(parts))',
    ),
    Mutant(
        "waits for what all GPUs together can never hold",
        SPLIT,
        "return held[parts - 1] + size >= need",
        "return True",
    ),
)

mutants, test_passes, test_the_model_notices_a_daemon_that = kept_list(MUTANTS, tests=TESTS)
