"""docs/placement.md: its commands run, its quotas are read, and it names every policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from markdown_blocks import blocks, commands
from superezio.wire import Policy
from supereziod.config import Source
from supereziod.config.schema import Quota

PAGE = Path(__file__).parents[2] / "docs" / "placement.md"
#: Ends what the page started, however far it came; the daemon itself ends by the page's last line.
PREAMBLE = "set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"


@pytest.mark.timeout(60)
def test_the_commands_run_from_the_top(tmp_path: Path) -> None:
    script = "\n".join([*commands(PAGE, "$ "), 'wait "$daemon"'])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUPEREZIO_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        ["bash", "-c", PREAMBLE + script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    for said in (
        "grant: 8.0 GiB on GPU 0",
        "yes, chosen (best_fit: ",
        "no, its compute capability is 7.5, and the request needs 8.0",
        "llama-server --tensor-split ",
        "split: --tensor-split ",
    ):
        assert said in done.stdout


def test_the_quotas_are_read(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "toml")
    file = tmp_path / "superezio.toml"
    file.write_text(text)
    quota = Source(file=file).load().config.leases.quota
    assert quota.default == Quota(leases=4)
    assert quota.user == {"alice": Quota(vram_bytes=16 << 30)}
    assert quota.group == {"students": Quota(vram_bytes=24 << 30)}


def test_every_policy_is_on_the_page() -> None:
    assert {name for name in get_args(Policy) if f"| `{name}` |" not in PAGE.read_text()} == set()
