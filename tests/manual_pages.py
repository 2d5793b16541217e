"""Manual pages as a reader sees them: what groff makes of them, without colours or bold."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = PROJECT / "packaging" / "man"
_GROFF = ("groff", "-ww", "-man", "-Tutf8", "-P-cbou")


def shown(source: str) -> str:
    """Return what a page shows, its lines long. Fails where groff warns of anything."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not there: apt-get install groff-base")
    done = subprocess.run(
        [*_GROFF, "-rLL=2000n"], input=source, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@cache
def shown_page(name: str) -> str:
    """Return what a page of ours shows, with one space where it has several."""
    return " ".join(shown((PAGES / name).read_text()).split())
