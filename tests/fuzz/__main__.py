"""Fuzzing, guided by coverage: `make fuzz`, or `python -m fuzz` in this folder's parent.

Each target has its part of the time. New inputs that reach new code are kept in build/fuzz, and
`--keep` takes the few of them that are worth it into tests/fuzz/corpus. An input that fails is left
in tests/fuzz/crashes, where a unit test replays it from then on.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from fuzz.faults import FAULTS, Fault, with_fault
from fuzz.keeping import worth_keeping
from fuzz.mutating import seeds
from fuzz.targets import TARGETS

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parents[1] / "build" / "fuzz"
#: Each target's share of the time.
SHARES: Final = {"framing": 0.2, "requests": 0.8}
_MAX_BYTES: Final = {"framing": 3000, "requests": 20_000}
_OPTIONS: Final = ("-timeout=60", "-rss_limit_mb=2500", "-print_final_stats=1", "-verbosity=1")


def main() -> int:
    """Fuzz, and return 1 where anything was found, 0 where nothing was."""
    given = _arguments()
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris has no package for this Python, so that nothing was fuzzed")
        return 0
    fault = FAULTS[given.fault] if given.fault else None
    targets = [fault.target] if fault else [given.target] if given.target else list(SHARES)
    whole = sum(SHARES[each] for each in targets)
    found = [
        name for name in targets if not _run(name, given.seconds * SHARES[name] / whole, fault)
    ]
    if given.keep and not found:
        for name in targets:
            _keep(name)
    if fault:
        print(f"the fault {given.fault} was {'found' if found else 'NOT found'}")
        return 0 if found else 1
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long in all")
    parser.add_argument("--target", choices=sorted(SHARES))
    parser.add_argument("--keep", action="store_true", help="add to tests/fuzz/corpus")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="run against a seeded fault")
    return parser.parse_args()


def _run(name: str, seconds: float, fault: Fault | None) -> bool:
    """Run one target; tell whether nothing was found."""
    grown = BUILD / "corpus" / name
    crashes = BUILD / "faults" if fault else HERE / "crashes"
    for directory in (grown, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    if fault:
        grown = BUILD / "faults" / "corpus" / name
        grown.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    ended = subprocess.run(
        [
            *_engine(name),
            f"-max_total_time={max(1, round(seconds))}",
            f"-artifact_prefix={crashes}/{name}-",
            *map(str, (grown, *_read_only(name))),
        ],
        env=_environment(fault),
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    _report(name, ended, time.monotonic() - began_s)
    return ended.returncode == 0


def _report(name: str, ended: subprocess.CompletedProcess[str], took_s: float) -> None:
    output = ended.stdout
    (BUILD / f"{name}.log").write_text(output)
    executed = re.findall(r"stat::number_of_executed_units:\s+(\d+)", output)
    covered = re.findall(r"cov: (\d+)", output)
    print(
        f"fuzz {name}: {executed[-1] if executed else '?'} inputs in {took_s:.0f} s,"
        f" {covered[-1] if covered else '?'} edges reached, log in build/fuzz/{name}.log"
    )
    if ended.returncode:
        print(output[-6000:])
        print(f"fuzz {name}: FAILED (code {ended.returncode}); replay: pytest tests/unit/fuzz")


def _keep(name: str) -> None:
    """Take into the committed corpus what reaches what nothing in it does."""
    corpus = HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    folders = (corpus, BUILD / "corpus" / name, BUILD / "seeds" / name)
    grown = [file for folder in folders for file in folder.iterdir()]
    kept = {file.name: file.read_bytes() for file in worth_keeping(grown, TARGETS[name])}
    for file in corpus.iterdir():
        file.unlink()
    for title, data in kept.items():
        (corpus / title).write_bytes(data)
    print(f"fuzz {name}: the corpus has {len(kept)} inputs, {sum(map(len, kept.values()))} bytes")


def _engine(name: str) -> list[str]:
    return [
        *(sys.executable, "-m", "fuzz.engine", name),
        *_OPTIONS,
        f"-max_len={_MAX_BYTES[name]}",
    ]


def _read_only(name: str) -> list[Path]:
    """Return where inputs to begin with are."""
    found = [each for each in (HERE / "corpus" / name, HERE / "crashes") if each.is_dir()]
    fresh = BUILD / "seeds" / name
    fresh.mkdir(parents=True, exist_ok=True)
    for title, data in seeds(name).items():
        (fresh / title).write_bytes(data)
    return [*found, fresh]


def _environment(fault: Fault | None) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if fault:
        environment["PYTHONPATH"] = str(with_fault(fault, BUILD / "faults"))
    return environment


if __name__ == "__main__":
    sys.exit(main())
