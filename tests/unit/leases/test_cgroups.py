"""SEMANTICS 4: a cgroup counts if it is a .service, or a container's or scope's own."""

from __future__ import annotations

import pytest

from supereziod.leases.cgroups import own_cgroup, unit_path

ID = "5ef829e7a7ae201649c5fd65bc8c83e39eeb84a382cce0a3a2f51d80cc73ffc2"
OTHER = "ca5bdf2924a7acf7afb70465b98087b9b9a13f4f2803f9e7ca78730cbddcdb66"
POD = "3c1a7f0e_9d0f_4a53_8f4e_0f4c7a1d2b3c"
KUBEPODS = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice"
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "own"),
    [
        # services, and what they delegate to
        ("/system.slice/llama.service", None),
        ("/system.slice/system-llama.slice/llama@7b.service", None),
        ("/system.slice/app-llama.service", None),
        ("/system.slice/machine-learning.service", None),
        ("/system.slice/llama.service/workers/3", "/system.slice/llama.service"),
        (f"{USER}/app.slice/comfyui.service", None),
        # scopes
        ("/system.slice/run-r5f3e.scope", None),
        (f"{USER}/app.slice/run-u12.scope", None),
        # podman: with systemd, rootless, in a pod, under a quadlet, and with cgroupfs
        (f"/machine.slice/libpod-{ID}.scope", None),
        (f"/machine.slice/libpod-{ID}.scope/container", f"/machine.slice/libpod-{ID}.scope"),
        (f"{USER}/user.slice/libpod-{ID}.scope/container", f"{USER}/user.slice/libpod-{ID}.scope"),
        (f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope", None),
        (f"/system.slice/whisper.service/libpod-payload-{ID}", None),
        (f"/libpod_parent/libpod-{ID}", None),
        (f"/libpod_parent/{OTHER}/libpod-{ID}/container", f"/libpod_parent/{OTHER}/libpod-{ID}"),
        # docker: with systemd, with cgroupfs, rootless, and docker in docker
        (f"/system.slice/docker-{ID}.scope", None),
        (f"/docker/{ID}", None),
        (f"/docker/{ID}/init", f"/docker/{ID}"),
        (f"{USER}/user.slice/docker-{ID}.scope", None),
        (f"/docker/{OTHER}/docker/{ID}", None),
        # Kubernetes
        (f"{KUBEPODS}/cri-containerd-{ID}.scope", None),
        (f"{KUBEPODS}/crio-{ID}.scope/container", f"{KUBEPODS}/crio-{ID}.scope"),
        (f"/kubepods/besteffort/pod{POD}/{ID}", None),
        # a systemd in a container: each of its services, or the container
        (
            f"/machine.slice/libpod-{ID}.scope/container/system.slice/app.service",
            None,
        ),
        (
            f"/machine.slice/libpod-{ID}.scope/container/init.scope",
            f"/machine.slice/libpod-{ID}.scope",
        ),
        # machines: their services, as on the host
        ("/machine.slice/machine-debian.scope/payload/system.slice/llama.service", None),
        ("/machine.slice/systemd-nspawn@debian.service/payload/system.slice/x.service", None),
        ("/lxc.payload.c1/system.slice/llama.service", None),
    ],
)
def test_it_is_one_programs_own(path: str, own: str | None) -> None:
    assert own_cgroup(f"0::{path}\n") == (own or path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/user.slice",
        "/system.slice",
        "/init.scope",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-1000.slice/session-c2.scope/anything",
        USER,
        f"{USER}/init.scope",
        f"{USER}/app.slice/app-gnome-org.gnome.Terminal-4711.scope",
        f"{USER}/app.slice/app-org.kde.konsole@5d2f.service",
        f"{USER}/app.slice/app-org.kde.konsole-4711.scope/tab(4712).scope",
        f"{USER}/app.slice/app-org.gnome.Terminal.slice/vte-spawn-0f2b.scope",
        f"{USER}/tmux-spawn-0f2b.scope",
        "/system.slice/ssh.service",
        "/system.slice/sshd@3-10.0.0.1:22-10.0.0.2:5022.service",
        "/system.slice/cron.service",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "/system.slice/docker.service",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        "/libpod_parent/conmon",
        "/machine.slice/machine-debian.scope/payload",
        "/machine.slice/machine-debian.scope/payload/init.scope",
        "/machine.slice/machine-debian.scope/payload/user.slice/user-0.slice/session-1.scope",
        "/machine.slice/systemd-nspawn@debian.service/payload/init.scope",
        "/lxc.payload.c1",
        "/kubepods/besteffort",
        "/process_api/08a735ff54a422cf6b0455d0aaea2f46",
    ],
)
def test_it_holds_whatever_somebody_runs(path: str) -> None:
    assert own_cgroup(f"0::{path}\n") is None


def test_of_mixed_hierarchies_the_most_telling_counts() -> None:
    engine = f"/libpod_parent/libpod-{ID}"
    names = ("pids", "devices", "memory", "cpu,cpuacct")
    controllers = "".join(f"{n}:{name}:{engine}\n" for n, name in enumerate(names, start=2))
    # podman with cgroupfs, all hierarchies mounted, and systemd's own that it did not enter
    assert own_cgroup(f"{controllers}1:name=systemd:/user.slice\n0::/\n") == engine
    # a service where systemd keeps both
    service = "/system.slice/llama.service"
    assert own_cgroup(f"4:memory:/\n1:name=systemd:{service}\n0::{service}\n") == service
    assert own_cgroup(f"4:memory:{service}\n1:name=systemd:{service}\n0::/\n") == service
    # no unified hierarchy at all
    assert own_cgroup(f"4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n") == f"/docker/{ID}"
    assert own_cgroup("4:memory:/\n1:name=systemd:/\n0::/\n") is None


def test_lines_that_are_none_say_nothing() -> None:
    assert own_cgroup("") is None
    assert own_cgroup("0\n::\nnonsense:/system.slice/x.service\n") is None
    assert own_cgroup("0::/system.slice/with:colon.service\n") == "/system.slice/with:colon.service"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/llama.service/workers/3", "/system.slice/llama.service"),
        ("0::/user.slice/session-3.scope", "/user.slice/session-3.scope"),
        ("0::/\n1:name=systemd:/system.slice/a.service", "/system.slice/a.service"),
        ("0::/", None),
        ("nonsense", None),
    ],
)
def test_the_innermost_unit_is_named_whatever_it_holds(text: str, path: str | None) -> None:
    assert unit_path(text) == path
