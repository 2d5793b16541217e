"""`podman run` and `docker run`: what is added to the command line, and what is asked later."""

from __future__ import annotations

from superezioctl.arguments import UsageError
from superezioctl.minding.spawned import Spawned, output_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENGINES = ("podman", "docker")
#: How a container gets its GPUs: by the Container Device Interface, by docker's own option, or by
#: what is on the command line already.
PASSING = ("cdi", "gpus", "none")

_FORMAT = "{{.State.Pid}}"
#: What a container's program has to know: which GPUs are its own, and that they are leased.
_TOLD = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "SUPEREZIO_LEASE",
    "SUPEREZIO_TENSOR_SPLIT",
)
#: Options of `run` that take no value, so that what follows them may be the image.
_FLAGS = frozenset({"--rm", "--detach", "--interactive", "--tty", "--privileged", "--init"})


class Engine:
    """A container engine by the words it is called with, up to `run`, and the environment."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._words = list(words)
        self._environment = environment

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return " ".join(self._words)

    def first_pid(self, container: str) -> int | None:
        """Return the pid of the container's first process, while that runs."""
        shown = output_of(
            [*self._words, "inspect", "--format", _FORMAT, container], self._environment
        )
        text = (shown or "").strip()
        return int(text) if text.isdecimal() and text != "0" else None

    def stop(self, container: str, grace_s: float | None) -> Spawned:
        """Stop the container as it wants to be stopped; None asks it only. Raises OSError."""
        if grace_s is None:
            words = ["kill", "--signal", "TERM", container]
        else:
            words = ["stop", "-t", str(int(grace_s)), container]
        return Spawned.start([*self._words, *words], self._environment)


class RunCommand:
    """A command line that runs one container. Raises UsageError for one that does not."""

    def __init__(self, engine: str, words: Sequence[str]) -> None:
        before = list(words[: words.index("run")]) if "run" in words else []
        names = [word.rpartition("/")[2] for word in before]
        if engine not in names or "compose" in names:
            raise UsageError(
                f"--container={engine} is for a command like `{engine} run [OPTIONS] IMAGE`, and "
                "the command is none: " + " ".join(words[:4])
            )
        self.engine_words = before
        self._options = list(words[len(before) + 1 :])
        #: The file that the user lets the container's id be written to, if any.
        self.own_cidfile = _value_of("--cidfile", self._options)
        #: What the container is called, if it is given a name.
        self.container_name = _value_of("--name", self._options)

    def extended(
        self, *, environment: Mapping[str, str], passing: str, cidfile: str | None
    ) -> list[str]:
        """Return the command with the GPUs of a lease, which `environment` names."""
        added = [] if cidfile is None else ["--cidfile", cidfile]
        if passing == "cdi":
            devices = environment.get("SUPEREZIO_CDI_DEVICES", "").split(",")
            added += [word for device in devices if device for word in ("--device", device)]
        elif passing == "gpus":
            added += ["--gpus", f'"device={environment["CUDA_VISIBLE_DEVICES"]}"']
        for name in _TOLD:
            if name in environment:
                added += ["--env", f"{name}={environment[name]}"]
        return [*self.engine_words, "run", *added, *self._options]


def _value_of(option: str, words: Sequence[str]) -> str | None:
    """Return the value of an option that stands before the image."""
    takes_value = False
    for number, word in enumerate(words):
        if takes_value:
            takes_value = False
        elif not word.startswith("-") or word == "--":
            return None
        elif word == option:
            return words[number + 1] if number + 1 < len(words) else None
        elif word.startswith(f"{option}="):
            return word.partition("=")[2]
        else:
            # Short flags may be put together (-it); whether -v takes a value cannot be told.
            bundle = not word.startswith("--") and set(word[1:]) <= set("dit")
            takes_value = "=" not in word and word not in _FLAGS and not bundle
    return None
