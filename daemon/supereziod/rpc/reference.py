"""docs/rpc.md, made from the table of methods: `python -m supereziod.rpc.reference EXAMPLES`.

EXAMPLES is docs/rpc-examples.json: exchanges that were recorded with a running daemon, by the name
of the method.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
from msgspec.structs import fields

from superezio import wire
from supereziod.gpu.hardware import Snapshot
from supereziod.health.checks import Observed, declared_checks
from supereziod.rpc.markdown import (
    StructType,
    cut,
    json_block,
    members_table,
    own_text,
    params_table,
    structs_in,
    table,
    type_text,
)
from supereziod.rpc.method import Method
from supereziod.rpc.methods import METHODS
from supereziod.rpc.openrpc import COMMON_ERRORS, errors_of
from supereziod.rpc.reference_head import Examples, head
from supereziod.rpc.vocabulary import EVENT_TYPES, REASON_CODES

_VISIBILITY: Final = {
    "public": "shows what is public",
    "masked": "masks what is others'",
    "own": "shows what is the caller's own",
}
_FAMILIES: Final = {
    "system": "The daemon",
    "config": "The configuration",
    "health": "The verdict",
    "gpu": "GPUs",
    "lease": "Leases",
    "placement": "Decisions",
    "limit": "Rate limits",
    "events": "Subscriptions",
    "session": "Sessions",
    "metrics": "Metrics",
    "cache": "The cache",
    "trace": "The flight recorder",
    "rpc": "The protocol",
    "breaker": "Circuit breakers",
}


def render_reference(methods: Iterable[Method], examples: Examples) -> str:
    """Return the reference of `methods` as Markdown."""
    methods = tuple(methods)
    own = _own_sections(methods)
    parts = [head(methods, examples)]
    for family, members in groupby(methods, key=lambda each: each.name.partition(".")[0]):
        parts.append(f"## {_FAMILIES[family]}\n")
        parts += [_method(each, examples, own) for each in members]
    parts.append("## Types\n")
    parts += [_type(each) for each in own]
    parts.append(_events(examples))
    parts.append(_reasons())
    parts.append(_checks())
    return "\n".join(parts)


# --- methods and types --------------------------------------------------------------------------


def _method(method: Method, examples: Examples, own: tuple[StructType, ...]) -> str:
    traits = [f"Role {method.role}", _VISIBILITY[method.visibility]]
    if method.may_wait:
        traits.append("may wait")
    errors = [f"`{kind}`" for kind in errors_of(method) if kind not in COMMON_ERRORS]
    return (
        f"### {method.name}\n\n{method.summary}. {', '.join(traits)}.\n\n"
        f"{_params(method.params)}\n{_result(method.result, own)}\n"
        f"{_listed('Errors: ', errors)}"
        f"{_example(method, examples[method.name])}"
    )


def _type(struct: StructType) -> str:
    array_like = struct.__struct_config__.array_like
    as_array = "On the wire it is an array, in this order.\n\n" if array_like else ""
    return f"### {struct.__name__}\n\n{_text_of(struct)}{as_array}{members_table(struct)}"


def _listed(label: str, names: list[str]) -> str:
    return f"{label}{', '.join(names)}.\n\n" if names else ""


def _params(params: type[wire.Params]) -> str:
    if not fields(params):
        return "No parameters.\n"
    return f"{_text_of(params)}{params_table(params)}"


def _result(result: Any, own: tuple[StructType, ...]) -> str:  # noqa: ANN401 - a type form
    if result in own:
        return f"Result: {type_text(result)}.\n"
    inline = tuple(structs_in(result))
    if not inline:
        return "Result: an OpenRPC document.\n"
    return f"{_text_of(inline[0])}{members_table(inline[0])}"


def _text_of(struct: StructType) -> str:
    text = own_text(struct)
    return f"{text}\n" if text else ""


def _example(method: Method, example: Mapping[str, Any]) -> str:
    if not tuple(structs_in(method.result)):
        return json_block(example["request"])
    return json_block(example["request"], cut(example["answer"]))


def _own_sections(methods: tuple[Method, ...]) -> tuple[StructType, ...]:
    """Return the types with a section of their own: those that stand in more than one place."""
    uses: Counter[StructType] = Counter()
    nested: dict[StructType, None] = {wire.Event: None, wire.EventNotification: None}

    def visit(struct: StructType) -> None:
        for hint in get_type_hints(struct).values():
            for inner in structs_in(hint):
                if inner not in nested:
                    nested[inner] = None
                    visit(inner)

    for method in methods:
        visit(method.params)
        for struct in structs_in(method.result):
            uses[struct] += 1
            visit(struct)
    shared = [struct for struct, count in uses.items() if count > 1 and struct not in nested]
    return tuple(sorted([*shared, *nested], key=lambda each: each.__name__))


# --- what stands in answers as data -------------------------------------------------------------


def _events(examples: Examples) -> str:
    rows = [(f"`{name}`", meaning) for name, meaning in EVENT_TYPES.items()]
    return (
        "## Events\n\n"
        "After [events.subscribe](#eventssubscribe) the daemon sends a notification of the\n"
        "method `event` for each, in their order, with an\n"
        "[EventNotification](#eventnotification) as its params. An event with a `uid` goes to\n"
        "that user and to admins. A subscriber that does not read loses the oldest, and is told\n"
        "in `lost` how many.\n\n"
        f"{json_block(examples['event']['notification'])}\n{table(('type', 'told when'), rows)}"
    )


def _reasons() -> str:
    rows = [(f"`{code}`", meaning) for code, meaning in REASON_CODES.items()]
    return (
        "## Reasons of a placement\n\n"
        "`code` of a [GpuReason](#gpureason): why a GPU was chosen or passed over.\n\n"
        f"{table(('code', 'meaning'), rows)}"
    )


def _checks() -> str:
    observed = Observed(snapshot=_no_snapshot)
    rows = [
        (f"`{each.code}`", each.severity, each.action or "") for each in declared_checks(observed)
    ]
    return (
        "## Checks\n\n"
        "`check` of [health.get](#healthget), with the action where it cannot say more.\n\n"
        f"{table(('check', 'severity', 'action'), rows)}"
    )


def _no_snapshot() -> Snapshot:
    raise LookupError("nothing is observed here")


if __name__ == "__main__":
    recorded = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=dict[str, dict[str, Any]])
    sys.stdout.write(render_reference(METHODS, recorded))
