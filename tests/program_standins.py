"""Stand-ins for the programs of docs/examples.md: real processes that use simulated VRAM."""

from __future__ import annotations

import sys
from pathlib import Path

import engine_standin

#: As far as the examples use it: a tensor on "cuda" claims simulated VRAM for this process.
_TORCH = """\
import os
from pathlib import Path

from supereziod.gpu.claims import Claim, ClaimsDirectory, read_stat
from supereziod.gpu.standin import choose, default_directory


class cuda:
    @staticmethod
    def get_device_name(index):
        directory = ClaimsDirectory(default_directory())
        return choose(None, directory.cards())[index].uuid


class Tensor:
    def __iadd__(self, number):
        return self


def zeros(*shape, device):
    assert device == "cuda"
    directory = ClaimsDirectory(default_directory())
    card = choose(None, directory.cards())[0]
    directory.add(Claim(os.getpid(), read_stat(os.getpid()), card.uuid, 3 << 30, 0))
    return Tensor()


def save(tensor, path):
    Path(path).write_text("saved")
"""

_PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $* on $CUDA_VISIBLE_DEVICES" >>"$PROGRAMS_LOG"
exec python -m supereziod.gpu.standin --vram {vram} --seconds 0.2
"""

_COMFYUI = """\
import os, subprocess, sys
with open(os.environ["PROGRAMS_LOG"], "a") as log:
    print("main.py", *sys.argv[1:], "on", os.environ["CUDA_VISIBLE_DEVICES"], file=log)
command = [sys.executable, "-m", "supereziod.gpu.standin", "--vram", "7GiB", "--seconds", "0.2"]
sys.exit(subprocess.call(command))
"""


def install(directory: Path) -> dict[str, str]:
    """Put them into a directory, to work in; return the environment that makes them be found."""
    programs = directory / "bin"
    programs.mkdir()
    for name, vram in (("llama-server", "4GiB"), ("vllm", "9GiB")):
        path = programs / name
        path.write_text(_PROGRAM.format(vram=vram))
        path.chmod(0o755)
    engine_standin.install(programs, "podman")
    (directory / "containers").mkdir()
    (directory / "main.py").write_text(_COMFYUI)
    (directory / "modules").mkdir()
    (directory / "modules" / "torch.py").write_text(_TORCH)
    return {
        "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(directory / "modules"),
        "ENGINE_STANDIN_DIR": str(directory / "containers"),
        "PROGRAMS_LOG": str(directory / "programs.log"),
    }
