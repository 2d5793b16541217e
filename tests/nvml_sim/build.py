"""Compile the simulator: `python -m nvml_sim.build [--variant NAME]` prints the library's folder.

A variant is a driver's age: what that driver did not have yet is not exported at all. Every other
function that pynvml can ask for exists, and answers NVML_ERROR_NOT_SUPPORTED.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from nvml_sim import layout

SONAME: Final = "libnvidia-ml.so.1"
CURRENT: Final = "current"
_HERE: Final = Path(__file__).parent
_SOURCES: Final = _HERE / "src"
_CACHE: Final = _HERE.parents[1] / "build" / "nvml_sim"
_FLAGS: Final = ("-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
_STRICT: Final = ("-Werror", "-pthread")

_SINCE_570: Final = ("nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureV")
_SINCE_535: Final = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetSupportedClocksEventReasons",
)
_SINCE_510: Final = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)
#: Which functions a variant's library does not have.
ABSENT: Final[dict[str, tuple[str, ...]]] = {
    CURRENT: (),
    "r535": _SINCE_570,
    "r525": _SINCE_570 + _SINCE_535,
    "r470": _SINCE_570 + _SINCE_535 + _SINCE_510,
}

_STUB: Final = (
    "__attribute__((weak)) API {name}(void)"
    " {{ static struct counter *counter; return sim_stub(__func__, &counter); }}"
)


@functools.cache
def why_not() -> str | None:
    """Return why nothing can be compiled here, or None."""
    # Debian's gcc comes without the headers of libc where only what it depends on is installed.
    program = "#include <pthread.h>\n#include <stdio.h>\nint one(void) { return 1; }\n"
    with tempfile.TemporaryDirectory() as scratch:
        command = [_compiler(), "-shared", "-fPIC", "-pthread", "-x", "c", "-"]
        try:
            subprocess.run(
                [*command, "-o", f"{scratch}/one.so"],
                input=program.encode(),
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return "no C compiler with headers: apt-get install gcc libc6-dev"
    return None


def _compiler() -> str:
    return os.environ.get("CC", "gcc")


def wanted_functions() -> list[str]:
    """Return every NVML function that the installed pynvml looks up."""
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("cannot build the NVML simulator: pynvml is not installed")
    text = Path(spec.origin).read_text(encoding="utf-8")
    return sorted(set(re.findall(r'_nvmlGetFunctionPointer\(\s*"(nvml\w+)"', text)))


def _stubs() -> str:
    lines = ['#include "sim.h"', "int sim_stub(const char *call, struct counter **counter);"]
    lines += [_STUB.format(name=name) for name in wanted_functions() if name != "nvmlErrorString"]
    return "\n".join(lines) + "\n"


def _export_map(variant: str) -> str:
    hidden = "".join(f" {name};" for name in ABSENT[variant])
    return f"{{ global: nvml*; local:{hidden} *; }};\n"


def _compile(variant: str, generated: dict[str, str], folder: Path) -> None:
    for name, text in generated.items():
        (folder / name).write_text(text, encoding="utf-8")
    sources = [str(path) for path in sorted(_SOURCES.glob("*.c"))]
    command = [_compiler(), *_FLAGS, *_STRICT, f"-I{_SOURCES}", f"-I{folder}"]
    command += ["-shared", f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={folder}/exports.map"]
    command += [*sources, str(folder / "stubs.c"), "-o", str(folder / SONAME)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot build the NVML simulator ({variant}):\n{done.stderr}")


def build(variant: str = CURRENT, *, cache: Path = _CACHE) -> Path:
    """Return the folder of that variant's library, to be put in LD_LIBRARY_PATH.

    It is compiled if the cache has none of these very sources; several builders at once are safe.
    """
    generated = {
        "layout.h": layout.c_header(),
        "stubs.c": _stubs(),
        "exports.map": _export_map(variant),
    }
    digest = hashlib.sha256(repr((generated, _FLAGS)).encode())
    for path in sorted(_SOURCES.iterdir()):
        digest.update(path.read_bytes())
    folder = cache / f"{variant}-{digest.hexdigest()[:16]}"
    if not (folder / SONAME).exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _compile(variant, generated, Path(scratch))
            folder.mkdir(exist_ok=True)
            for name in (*generated, SONAME):  # the library last: it says that all is there
                (Path(scratch) / name).rename(folder / name)
    return folder


def main() -> None:
    """Build one variant and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m nvml_sim.build", description=__doc__)
    parser.add_argument("--variant", choices=sorted(ABSENT), default=CURRENT)
    parser.add_argument("--cache", type=Path, default=_CACHE)
    arguments = parser.parse_args()
    print(build(arguments.variant, cache=arguments.cache))


if __name__ == "__main__":
    main()
