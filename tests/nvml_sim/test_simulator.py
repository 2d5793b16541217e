"""The simulator keeps its own promises, seen through the library by unmodified pynvml."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nvml_sim import layout
from nvml_sim.build import ABSENT, SONAME, build, wanted_functions
from nvml_sim.plugin import MakeSimulator, built, require_compiler
from nvml_sim.profiles import GIB, H100, MIB, RTX_3060
from nvml_sim.simulator import NvmlSimulator, SimulatedGpu, SimulatedOutOfMemoryError

RunPynvml = Callable[[str], Any]
StartHolder = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run_pynvml(nvml_env: dict[str, str]) -> RunPynvml:
    """Run lines with `pynvml` in a process of its own and return what they leave in `out`."""

    def run(lines: str, env: dict[str, str] | None = None) -> Any:
        show = "print(json.dumps(out, default=lambda number: number.value))"
        script = f"import json, pynvml\npynvml.nvmlInit()\n{lines}\n{show}"
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=env or nvml_env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def start_holder(nvml_env: dict[str, str]) -> Iterator[StartHolder]:
    """Start processes that hold VRAM; those that still run are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, gpu: str = "0", size: str = "1GiB") -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "nvml_sim.alloc", "--gpu", gpu, "--size", size]
            holder = subprocess.Popen(
                [*command, *arguments],
                env=nvml_env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(holder)
            stack.callback(holder.kill)
            return holder

        yield start


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


# --- the library --------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", sorted(ABSENT))
def test_a_variant_lacks_what_its_driver_did_not_have_and_nothing_else(variant: str) -> None:
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(built(variant) / SONAME)],
        capture_output=True,
        text=True,
        check=True,
    )
    exported = {line.split()[2] for line in done.stdout.splitlines()}
    assert set(wanted_functions()) - exported == set(ABSENT[variant])
    assert not exported & set(ABSENT[variant])


def test_a_build_is_kept(tmp_path: Path) -> None:
    require_compiler()
    first = build(cache=tmp_path)
    built_ns = (first / SONAME).stat().st_mtime_ns
    assert build(cache=tmp_path) == first
    assert (first / SONAME).stat().st_mtime_ns == built_ns


def test_a_build_that_fails_shows_the_compilers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(RuntimeError, match="cannot build the NVML simulator"):
        build(cache=tmp_path)


def test_the_build_is_a_command(nvml_env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nvml_sim.build", "--variant", "r535"],
        env=nvml_env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == build("r535")


def test_a_function_without_an_answer_is_not_supported(run_pynvml: RunPynvml) -> None:
    out = run_pynvml(
        "try: pynvml.nvmlDeviceGetBoardId(pynvml.nvmlDeviceGetHandleByIndex(0))\n"
        "except pynvml.NVMLError as error: out = error.value"
    )
    assert out == 3


def test_a_change_is_seen_by_the_next_call(nvml_sim: NvmlSimulator, run_pynvml: RunPynvml) -> None:
    nvml_sim.gpu(1).set(temperature_c=66, fan_percent=None)
    out = run_pynvml(
        "h = pynvml.nvmlDeviceGetHandleByUUID('" + nvml_sim.gpu(1).uuid + "')\n"
        "out = pynvml.nvmlDeviceGetTemperature(h, 0)"
    )
    assert out == 66
    assert nvml_sim.gpu(1).get("temperature_c") == 66
    assert nvml_sim.gpu(1).get("fan_percent") is None


def test_mig_devices_have_handles_names_memory_and_their_processes(
    make_nvml_sim: MakeSimulator, nvml_library: Path, run_pynvml: Callable[..., Any]
) -> None:
    simulator = make_nvml_sim(H100, name="mig.state")
    gpu = simulator.gpu(0)
    first = gpu.mig.add(memory_bytes=10 * GIB)
    second = gpu.mig.add(memory_bytes=20 * GIB, profile="2g.20gb")
    gpu.raw.mig_devices[1].memory_extra_bytes = GIB
    gpu.run_process(500, 2 * GIB, gpu_instance=2)
    out = run_pynvml(
        "h = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "out = [pynvml.nvmlDeviceGetMaxMigDeviceCount(h)]\n"
        "for i in range(2):\n"
        "    m = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(h, i)\n"
        "    memory = pynvml.nvmlDeviceGetMemoryInfo(m, version=pynvml.nvmlMemory_v2)\n"
        "    out.append([pynvml.nvmlDeviceGetUUID(m), pynvml.nvmlDeviceGetName(m),\n"
        "        pynvml.nvmlDeviceIsMigDeviceHandle(m), memory.total, memory.used,\n"
        "        pynvml.nvmlDeviceGetGpuInstanceId(m),\n"
        "        [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(m)]])\n"
        "for call in (lambda: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(h, 2),\n"
        "             lambda: pynvml.nvmlDeviceGetUtilizationRates(h)):\n"
        "    try: call()\n"
        "    except pynvml.NVMLError as error: out.append(error.value)\n",
        env=simulator.env(nvml_library),
    )
    name = "NVIDIA H100 80GB HBM3 MIG "
    assert out == [
        7,
        [first, name + "1g.10gb", 1, 10 * GIB, 0, 1, []],
        [second, name + "2g.20gb", 1, 20 * GIB, 3 * GIB, 2, [500]],
        6,
        3,
    ]


def test_mig_can_be_cut_anew_and_forbidden_while_programs_hold_handles(
    make_nvml_sim: MakeSimulator, nvml_library: Path, run_pynvml: Callable[..., Any]
) -> None:
    """A handle of a device that is gone is refused, its index is a gap, and counts go to 0."""
    simulator = make_nvml_sim(H100, name="mig.state")
    gpu = simulator.gpu(0)
    first, second, third = (gpu.mig.add(memory_bytes=10 * GIB) for _ in range(3))
    gpu.mig.forbid(third)
    out = run_pynvml(
        "import os; from pathlib import Path\n"
        "from nvml_sim.simulator import NvmlSimulator\n"
        "h = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "m, n, o = (pynvml.nvmlDeviceGetMigDeviceHandleByIndex(h, i) for i in range(3))\n"
        "a = pynvml.nvmlDeviceGetAttributes_v2(m)\n"
        "out = [[a.gpuInstanceSliceCount, a.computeInstanceSliceCount, a.memorySizeMB]]\n"
        "sim = NvmlSimulator(Path(os.environ['NVML_SIM_STATE']))\n"
        f"sim.gpu(0).mig.remove({second!r})\n"
        "for call in (lambda: pynvml.nvmlDeviceGetMemoryInfo(n),\n"
        "             lambda: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(h, 1),\n"
        "             lambda: pynvml.nvmlDeviceGetMemoryInfo(o),\n"
        "             lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(o)):\n"
        "    try: call()\n"
        "    except pynvml.NVMLError as error: out.append(error.value)\n"
        "out.append(pynvml.nvmlDeviceGetUUID(o))\n"
        "sim.gpu(0).mig.disable()\n"
        "out.append(pynvml.nvmlDeviceGetMaxMigDeviceCount(h))\n",
        env=simulator.env(nvml_library),
    )
    assert out == [[1, 1, 10 * 1024], 2, 6, 4, 4, third, 0]
    assert gpu.mig.add(memory_bytes=10 * GIB) == first


def test_a_process_holds_vram_of_its_mig_device_alone(
    make_nvml_sim: MakeSimulator, nvml_library: Path
) -> None:
    """What does not fit on the device is refused, however much the card has left."""
    simulator = make_nvml_sim(H100, name="mig.state")
    gpu = simulator.gpu(0)
    uuid = gpu.mig.add(memory_bytes=10 * GIB)
    gpu.mig.add(memory_bytes=10 * GIB)
    command = [sys.executable, "-m", "nvml_sim.alloc", "--size"]
    env = simulator.env(nvml_library) | {"CUDA_VISIBLE_DEVICES": uuid}
    assert subprocess.run([*command, "11GiB"], env=env, check=False).returncode == 3
    with subprocess.Popen(
        [*command, "4GiB", "--stdin"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"claimed\n"
        assert gpu.mig.free_bytes(uuid) == 6 * GIB
        assert gpu.used_bytes == 4 * GIB
        process.communicate()
    assert gpu.mig.free_bytes(uuid) == 10 * GIB


def test_a_state_that_is_not_one_is_a_driver_that_is_not_loaded(
    nvml_library: Path, tmp_path: Path, nvml_sim: NvmlSimulator
) -> None:
    (tmp_path / "broken").write_bytes(b"\0" * 1000)
    for state in (tmp_path / "broken", tmp_path / "absent"):
        env = nvml_sim.env(nvml_library) | {"NVML_SIM_STATE": str(state)}
        done = subprocess.run(
            [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "DriverNotLoaded" in done.stderr


def test_faults_are_counted_down_and_mended(nvml_sim: NvmlSimulator, run_pynvml: RunPynvml) -> None:
    lines = (
        "out = []\n"
        "h = pynvml.nvmlDeviceGetHandleByIndex(1)\n"
        "for _ in range(3):\n"
        "    try: out.append(pynvml.nvmlDeviceGetPowerUsage(h))\n"
        "    except pynvml.NVMLError as error: out.append(-error.value)"
    )
    nvml_sim.fail("nvmlDeviceGetPowerUsage", 999, gpu=1, times=2)
    nvml_sim.fail("nvmlDeviceGetPowerUsage", 4, gpu=0)
    assert run_pynvml(lines) == [-999, -999, 9800]
    nvml_sim.fail("nvmlDeviceGetPowerUsage", 15)
    assert run_pynvml(lines) == [-15, -15, -15]
    nvml_sim.mend()
    assert run_pynvml(lines) == [9800, 9800, 9800]
    assert nvml_sim.calls("nvmlDeviceGetPowerUsage") == 9
    assert nvml_sim.calls("nvmlDeviceGetSerial") == 0


def test_what_does_not_fit_the_state_is_refused(make_nvml_sim: MakeSimulator) -> None:
    simulator = make_nvml_sim(*[RTX_3060] * layout.MAX_GPUS)
    with pytest.raises(ValueError, match="more than 16 GPUs"):
        simulator.add_gpu(RTX_3060)
    for _ in range(layout.MAX_FAULTS):
        simulator.fail("nvmlDeviceGetName", 3)
    with pytest.raises(ValueError, match="faults at once"):
        simulator.fail("nvmlDeviceGetName", 3)
    gpu = simulator.gpu(0)
    for pid in range(1, layout.MAX_PROCESSES + 1):
        gpu.run_process(pid, 1)
    with pytest.raises(ValueError, match="processes on a GPU"):
        gpu.run_process(9999, 1)
    with pytest.raises(AttributeError, match="no such number"):
        gpu.set(temperature=3)
    with pytest.raises(LookupError, match="cannot find GPU"):
        simulator.find("GPU-nonsense")


# --- processes that hold VRAM ---------------------------------------------------------------------


def test_a_holder_uses_vram_until_it_dies(
    nvml_sim: NvmlSimulator, start_holder: StartHolder
) -> None:
    gpu = nvml_sim.gpu(0)
    holder = start_holder(size="2GiB")
    assert line_of(holder) == "claimed"
    assert gpu.listed == {holder.pid: 2 * GIB}
    assert gpu.used_bytes == 2 * GIB
    end(holder)
    assert (gpu.listed, gpu.used_bytes) == ({}, 0)


def test_a_zombie_holds_no_vram(nvml_sim: NvmlSimulator, start_holder: StartHolder) -> None:
    holder = start_holder("--stdin")
    assert line_of(holder) == "claimed"
    assert nvml_sim.gpu(0).listed == {holder.pid: GIB}
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not waited for
    assert nvml_sim.gpu(0).listed == {}


def test_vram_returned_late_counts_as_used_after_the_death(
    nvml_sim: NvmlSimulator, start_holder: StartHolder
) -> None:
    gpu = nvml_sim.gpu(0)
    gpu.set(return_delay_ms=60_000)
    holder = start_holder()
    assert line_of(holder) == "claimed"
    end(holder)
    assert (gpu.listed, gpu.used_bytes) == ({}, GIB)
    gpu.set(return_delay_ms=layout.FOR_EVER)
    assert gpu.used_bytes == GIB
    gpu.set(return_delay_ms=0)
    assert gpu.used_bytes == 0


def test_library_and_python_count_alike(
    nvml_sim: NvmlSimulator, start_holder: StartHolder, run_pynvml: RunPynvml
) -> None:
    gpu = nvml_sim.gpu(0)
    gpu.set(memory_extra_bytes=100 * MIB, return_delay_ms=60_000)
    gpu.run_process(1, 10 * MIB, lists="CG")
    gpu.run_process(2, 20 * MIB, counted=False)
    gpu.run_process(3, None, hidden_bytes=40 * MIB)
    dead, living = (start_holder(size="1GiB") for _ in range(2))
    assert [line_of(dead), line_of(living)] == ["claimed", "claimed"]
    end(dead)
    out = run_pynvml(
        "h = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "memory = pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)\n"
        "old = pynvml.nvmlDeviceGetMemoryInfo(h)\n"
        "ps = pynvml.nvmlDeviceGetComputeRunningProcesses(h)\n"
        "out = [memory.used, memory.free, old.used, old.free, sorted(p.pid for p in ps)]"
    )
    used, free = 2 * GIB + 150 * MIB, 10 * GIB - 150 * MIB - 317 * MIB
    assert out == [used, free, used + 317 * MIB, free, [1, 2, 3, living.pid]]
    assert (gpu.used_bytes, gpu.free_bytes) == (used, free)
    end(living)


def test_a_claim_that_does_not_fit_is_refused_and_counted(
    nvml_sim: NvmlSimulator, start_holder: StartHolder
) -> None:
    gpu = nvml_sim.gpu(1)
    gpu.set(memory_extra_bytes=5 * GIB)
    holder = start_holder(gpu=gpu.uuid, size="1GiB")
    assert line_of(holder) == "out of memory"
    assert holder.wait() == 3
    assert (gpu.raw.out_of_memory_count, gpu.used_bytes) == (1, 5 * GIB)


def test_a_holder_resizes_what_it_has(nvml_sim: NvmlSimulator, start_holder: StartHolder) -> None:
    gpu = nvml_sim.gpu(1)
    holder = start_holder("--stdin", gpu="1", size="512MiB")
    assert holder.stdin is not None
    answers = [line_of(holder)]
    for size in ("5GiB", "6GiB", "1GiB"):
        holder.stdin.write(f"resize {size}\n")
        holder.stdin.flush()
        answers.append(line_of(holder))
    assert answers == ["claimed", "claimed", "out of memory", "claimed"]
    assert gpu.listed == {holder.pid: GIB}
    holder.stdin.close()
    assert holder.wait() == 0
    assert gpu.used_bytes == 0


def test_a_holder_claims_on_the_gpus_that_cuda_shows_it(
    nvml_sim: NvmlSimulator, nvml_env: dict[str, str]
) -> None:
    visible = ",".join(gpu.uuid for gpu in nvml_sim.gpus)
    done = subprocess.run(
        [sys.executable, "-m", "nvml_sim.alloc", "--size", "1GiB", "--hold", "0"],
        env=nvml_env | {"CUDA_VISIBLE_DEVICES": visible},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "claimed\n"
    slots = [gpu.raw.processes[0].used_bytes for gpu in nvml_sim.gpus]
    assert slots == [GIB, GIB]


def test_claims_at_the_same_time_never_exceed_the_card(
    nvml_sim: NvmlSimulator, start_holder: StartHolder
) -> None:
    gpu = nvml_sim.gpu(1)
    holders = [start_holder(gpu="1", size="1GiB") for _ in range(8)]
    answers = [line_of(holder) for holder in holders]
    assert answers.count("claimed") == 5
    assert gpu.raw.out_of_memory_count == 3
    assert gpu.used_bytes == 5 * GIB
    assert len(gpu.listed) == 5
    for holder in holders:
        end(holder)
    assert gpu.used_bytes == 0


def test_places_of_the_dead_are_used_again(
    nvml_sim: NvmlSimulator, start_holder: StartHolder
) -> None:
    gpu = nvml_sim.gpu(0)
    for pid in range(1, layout.MAX_PROCESSES):
        gpu.run_process(pid, 0)
    for _ in range(2):
        holder = start_holder()
        assert line_of(holder) == "claimed"
        end(holder)
    gpu.end_process(1)
    assert len(gpu.listed) == layout.MAX_PROCESSES - 2


def test_only_what_runs_can_claim(nvml_sim: NvmlSimulator) -> None:
    gpu: SimulatedGpu = nvml_sim.gpu(0)
    with pytest.raises(ProcessLookupError, match="does not run"):
        gpu.claim(2**22 - 1, GIB)
    with subprocess.Popen(["true"]) as gone:
        pass
    with pytest.raises(ProcessLookupError):
        gpu.claim(gone.pid, GIB)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as running:
        with pytest.raises(SimulatedOutOfMemoryError, match="are free"):
            gpu.claim(running.pid, 13 * GIB)
        gpu.claim(running.pid, GIB, lists="G")
        assert gpu.listed == {running.pid: GIB}
        running.kill()
