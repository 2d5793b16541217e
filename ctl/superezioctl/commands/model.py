"""superezioctl model list, check and run: model servers that systemd runs under a lease."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional
from superezioctl.exit_codes import BAD_FILE, DONE, FAILED, NOT_FOUND, RUN_FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from superezioctl.context import Context
    from superezioctl.models.units import UnitState


def list_(context: Context) -> int:
    """List the models that have a file, with their units and leases."""
    from superezioctl.models import units  # noqa: PLC0415 - for this command only

    names = _names(context)
    states = units.states(names)
    leases = _leases(context) if names else {}
    models = [_model(context, name, states.get(name), leases) for name in names]
    if context.out.json:
        _document(context, {"models": models})
    else:
        from superezioctl.views import models as view  # noqa: PLC0415 - for people only

        view.show(context.out, models)
    return DONE


def check(context: Context) -> int:
    """Say what is wrong with the files of some models, or of all."""
    from superezioctl.models.files import ModelFileError, load  # noqa: PLC0415 - as above

    problems = []
    checked = context.arguments["name"] or _names(context)
    for name in checked:
        try:
            load(name, _directory(context))
        except ModelFileError as error:
            problems += error.problems
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
    return running.run(context, name, model)


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
    context: Context, name: str, state: UnitState | None, leases: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    from superezioctl.models.files import ModelFileError, load  # noqa: PLC0415 - as above
    from superezioctl.models.model import unit_of  # noqa: PLC0415 - as above

    try:
        load(name, _directory(context))
        problems = []
    except ModelFileError as error:
        problems = [str(problem) for problem in error.problems]
    lease = leases.get(state.main_pid or 0) if state is not None else None
    return {
        "name": name,
        "unit": unit_of(name),
        "active_state": state and state.active_state,
        "sub_state": state and state.sub_state,
        "enabled": state and state.enabled,
        "status": state and state.status,
        "main_pid": state and state.main_pid,
        "lease": lease and lease["id"],
        "gpus": [gpu["index"] for gpu in lease["gpus"]] if lease else [],
        "problems": problems,
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
        "superezio-model@NAME.service runs. Who holds a lease is shown as far as your role goes: "
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
        description="Tells every mistake with file, line and key, and what to write instead. The "
        "exit code is 1 where there is one.",
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
        "systemd.\n\nThe exit code is the server's own. 78: the file cannot be used; 125: there "
        "was no lease; 126, 127: the server cannot be executed, or is not there.",
        examples=[
            "superezioctl model run llama",
            "superezioctl model run --directory . llama",
        ],
        failure_code=RUN_FAILED,
    ),
}
