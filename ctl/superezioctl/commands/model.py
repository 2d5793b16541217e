"""superezioctl model list, check and run: model servers that systemd runs under a lease."""

from __future__ import annotations

from functools import partial

from superezioctl.arguments import Command, Option, Positional
from superezioctl.exit_codes import (
    BAD_FILE,
    DONE,
    FAILED,
    NOT_EXECUTABLE,
    NOT_FOUND,
    RUN_FAILED,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from superezioctl.context import Context
    from superezioctl.models.files import Problem
    from superezioctl.models.model import Model
    from superezioctl.models.units import UnitState


def list_(context: Context) -> int:
    """List the models that have a file, with their units and leases."""
    from superezioctl.models import units  # noqa: PLC0415 - for this command only

    names = _names(context)
    states = units.states(names)
    leases = _leases(context) if names else {}
    problems = _problems(context, names)
    models = [_model(name, states.get(name), leases, problems[name]) for name in names]
    if context.out.json:
        _document(context, {"models": models})
    else:
        from superezioctl.views import models as view  # noqa: PLC0415 - for people only

        view.show(context.out, models)
    return DONE


def check(context: Context) -> int:
    """Say what is wrong with the files of some models, or of all."""
    checked = context.arguments["name"] or _names(context)
    problems = [each for found in _problems(context, checked).values() for each in found]
    if context.out.json:
        from msgspec import to_builtins  # noqa: PLC0415 - as above

        _document(context, {"good": not problems, "problems": to_builtins(problems)})
    else:
        for problem in problems:
            context.out.line(str(problem))
        if not problems:
            context.out.line("good" if checked else f"no models in {_directory(context)}")
    return FAILED if problems else DONE


def run(context: Context) -> int:
    """Become the model server, under a lease; what superezio-model@.service calls."""
    from superezioctl.models import files, running  # noqa: PLC0415 - as above

    name = context.arguments["name"]
    try:
        model = files.load(name, _directory(context))
    except files.ModelFileError as error:
        for problem in error.problems:
            context.out.note(str(problem))
        return BAD_FILE
    try:
        running.enter(model)
    except OSError as error:
        where = model.working_directory
        context.out.note(f"superezioctl model: cannot work in {where}: {error.strerror}")
        return NOT_FOUND
    code = _unusable(context, name, model)
    return running.run(context, name, model) if code is None else code


def _unusable(context: Context, name: str, model: Model) -> int | None:
    """Say what is wrong with the server's program; return the exit code of that, if anything is.

    Later it would cost a lease, and a unit that is said to run.
    """
    from superezioctl.models import programs  # noqa: PLC0415 - as above

    try:
        programs.look_for(model.command[0], programs.Place.here())
    except programs.UnusableProgramError as error:
        context.out.note(f"superezioctl model: {name}: command: {error}")
        return NOT_FOUND if error.missing else NOT_EXECUTABLE
    return None


def _problems(context: Context, names: list[str]) -> dict[str, list[Problem]]:
    """Return what is wrong with each model: with its file, or with the programs that it names."""
    from superezioctl.models import programs, units  # noqa: PLC0415 - as above
    from superezioctl.models.files import ModelFileError, load  # noqa: PLC0415 - as above
    from superezioctl.models.model import is_name  # noqa: PLC0415 - as above

    places = units.places([name for name in names if is_name(name)])
    here = programs.Place.here()
    problems: dict[str, list[Problem]] = {}
    for name in names:
        look = partial(programs.unusable, place=places.get(name, here))
        try:
            load(name, _directory(context), also=look)
            problems[name] = []
        except ModelFileError as error:
            problems[name] = error.problems
    return problems


def _directory(context: Context) -> Path:
    from pathlib import Path  # noqa: PLC0415 - these commands only

    from superezioctl.models.model import DIRECTORY  # noqa: PLC0415 - as above

    return Path(context.arguments["directory"] or DIRECTORY)


def _names(context: Context) -> list[str]:
    from superezioctl.models.model import names  # noqa: PLC0415 - as above

    directory = _directory(context)
    try:
        return names(directory)
    except FileNotFoundError:
        return []


def _leases(context: Context) -> dict[int, dict[str, Any]]:
    """Return the leases by the pids that hold them; none where no daemon says so."""
    import json  # noqa: PLC0415 - as above

    from superezio.errors import SuperezioError  # noqa: PLC0415 - as above
    from superezioctl.failures import tell  # noqa: PLC0415 - as above

    try:
        leases = json.loads(context.call("lease.list"))["leases"]
    except SuperezioError as error:
        tell(error, context)
        context.out.note("So leases are not known.")
        return {}
    return {process["pid"]: lease for lease in leases for process in lease["holder"] or ()}


def _model(
    name: str,
    state: UnitState | None,
    leases: dict[int, dict[str, Any]],
    problems: list[Problem],
) -> dict[str, Any]:
    from superezioctl.models.model import unit_of  # noqa: PLC0415 - as above

    lease = leases.get(state.main_pid or 0) if state is not None else None
    return {
        "name": name,
        "unit": unit_of(name),
        "active_state": state and state.active_state,
        "sub_state": state and state.sub_state,
        "enabled": state and state.enabled,
        "status": state and state.status,
        "main_pid": state and state.main_pid,
        "result": state and state.result,
        "exit_code": state and state.exit_code,
        "restarts": state and state.restarts,
        "lease": lease and lease["id"],
        "gpus": [gpu["index"] for gpu in lease["gpus"]] if lease else [],
        "problems": [str(problem) for problem in problems],
    }


def _document(context: Context, found: dict[str, Any]) -> None:
    import json  # noqa: PLC0415 - as above

    context.out.document(json.dumps(found, ensure_ascii=False).encode())


_DIRECTORY = Option(
    "--directory",
    "where the files of models are (default: /etc/superezio/models)",
    metavar="PATH",
)

COMMANDS = {
    "model list": Command(
        list_,
        options=[_DIRECTORY],
        description="A model is a file, /etc/superezio/models/NAME.toml, that "
        "superezio-model@NAME.service runs. Of one that has failed it says how, and what "
        "to do. Who holds a lease is shown as far as your role goes: "
        "`superezioctl access`.",
        examples=[
            "superezioctl model list",
            "superezioctl --json model list | jq -r '.models[] | select(.lease).name'",
        ],
    ),
    "model check": Command(
        check,
        options=[_DIRECTORY],
        positionals=[
            Positional("NAME", "models; default: all that have a file", optional=True, rest=True)
        ],
        description="Tells every mistake with file, line and key, and what to write instead. "
        "Programs that a file names are looked for as the server would: in its PATH and directory "
        "and, for root, with the rights of its user. They are not run. The exit code is 1 where "
        "there is a mistake.",
        examples=[
            "superezioctl model check",
            "superezioctl model check llama && systemctl restart superezio-model@llama",
        ],
    ),
    "model run": Command(
        run,
        options=[_DIRECTORY],
        positionals=[Positional("NAME", "the model")],
        description="What superezio-model@NAME.service calls: it waits for a lease as the file "
        "says, becomes the server, which is the holder of the lease, and tells systemd when that "
        "is ready. The lease ends with the server. In a terminal it does the same, without "
        "systemd.\n\nA server whose lease somebody wants back is told to end, and that is its "
        "end. One that loses it because its GPU is too hot is started anew by systemd, and waits "
        "for a lease.\n\nThe exit code is the server's own. 78: the file cannot be used; 125: "
        "there was no lease; 126, 127: the server cannot be executed, or is not there.",
        examples=[
            "superezioctl model run llama",
            "superezioctl model run --directory . llama",
        ],
        failure_code=RUN_FAILED,
    ),
}
