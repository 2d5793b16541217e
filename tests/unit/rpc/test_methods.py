"""The table of methods: every cell of the matrix of access, and the document made from it."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from referencing import Registry, Resource

from superezio import calls, wire
from supereziod.rpc.access import RANK, ROLES
from supereziod.rpc.method import Method
from supereziod.rpc.methods import METHODS, _method, bind
from supereziod.rpc.openrpc import openrpc_document
from unit.rpc.built import GPU_A, daemon

DATA = Path(__file__).parents[2] / "data" / "openrpc"

#: The least role that may call each method: written down here once more, on purpose.
OBSERVER = {
    "system.ping", "system.info", "health.get", "gpu.list", "gpu.get", "gpu.history",
    "gpu.processes", "lease.list", "lease.get", "lease.quota",
    "events.subscribe", "events.unsubscribe", "session.open", "session.close", "session.list",
    "metrics.get", "trace.get", "trace.find", "trace.annotate", "rpc.discover", "rpc.cancel",
}  # fmt: skip
USER = {
    "lease.acquire",
    "lease.attach",
    "lease.resume",
    "lease.renew",
    "lease.ready",
    "lease.revoke",
    "lease.acknowledge",
    "lease.release",
    "lease.cancel",
    "placement.explain",
    "breaker.acquire",
    "breaker.settle",
    "breaker.get",
    "breaker.list",
    "breaker.force_open",
    "breaker.disable",
    "breaker.reset",
    "cache.get",
    "cache.set",
    "cache.fail",
    "cache.delete",
    "cache.clear",
    "cache.stats",
    "limit.acquire",
    "limit.settle",
    "limit.peek",
    "limit.list",
    "limit.reset",
}
ADMIN = {
    "system.reload", "system.log_level", "config.get", "config.diff",
    "gpu.cordon", "gpu.uncordon", "gpu.detach", "gpu.attach",
}  # fmt: skip
MAY_CALL = {"observer": OBSERVER, "user": OBSERVER | USER, "admin": OBSERVER | USER | ADMIN}

#: Enough for each method that needs any.
PARAMS: dict[str, dict[str, object]] = {
    "gpu.get": {"gpu": "0"},
    "gpu.history": {"gpu": "0"},
    "gpu.cordon": {"gpu": "0"},
    "gpu.uncordon": {"gpu": "0"},
    "lease.acquire": {"vram_bytes": 1},
    "lease.attach": {"lease": "x", "pid": 1},
    "lease.resume": {"lease": "x"},
    "lease.renew": {"lease": "x"},
    "lease.ready": {"lease": "x"},
    "lease.revoke": {"lease": "x"},
    "lease.acknowledge": {"lease": "x"},
    "lease.release": {"lease": "x"},
    "lease.cancel": {"waiter": "x"},
    "lease.get": {"lease": "x"},
    "placement.explain": {"vram_bytes": 1},
    "limit.acquire": {"name": "x"},
    "limit.settle": {"reservation": 1},
    "limit.peek": {"name": "x"},
    "limit.reset": {"name": "x"},
    "events.unsubscribe": {"subscription": "x"},
    "session.close": {"session_id": "x"},
    "trace.get": {"id": "x"},
    "trace.annotate": {"correlation_id": "x", "name": "fetch"},
    "rpc.cancel": {"id": 99},
    "breaker.acquire": {"name": "x"},
    "breaker.settle": {"name": "x", "permit": 1, "outcome": "success"},
    "breaker.get": {"name": "x"},
    "breaker.force_open": {"name": "x"},
    "breaker.disable": {"name": "x"},
    "breaker.reset": {"name": "x"},
    "cache.get": {"namespace": "n", "key": "k"},
    "cache.set": {"namespace": "n", "key": "k", "text": "v"},
    "cache.fail": {"namespace": "n", "key": "k", "token": "t"},
    "cache.delete": {"namespace": "n", "key": "k"},
    "cache.clear": {"namespace": "n"},
}


#: Why what is not for admins alone leaves no record: nothing of another's can be changed by it.
NOT_ACTS = {
    "system.ping": "reads", "system.info": "reads", "health.get": "reads", "gpu.list": "reads",
    "gpu.get": "reads", "gpu.history": "reads", "gpu.processes": "reads", "lease.list": "reads",
    "lease.get": "reads", "lease.quota": "reads", "placement.explain": "reads",
    "session.list": "reads", "metrics.get": "reads", "trace.get": "reads", "trace.find": "reads",
    "rpc.discover": "reads", "breaker.get": "reads", "breaker.list": "reads",
    "limit.peek": "reads", "limit.list": "reads", "cache.stats": "reads",
    "events.subscribe": "of one connection", "events.unsubscribe": "of one connection",
    "rpc.cancel": "of one connection", "session.open": "one's own", "trace.annotate": "one's own",
    "lease.acquire": "one's own, and an event", "limit.acquire": "what the limit is for",
    "limit.settle": "one's own", "cache.get": "what the cache is for",
    "cache.set": "what the cache is for", "cache.fail": "one's own",
    "cache.delete": "what all who share a namespace may do",
    "breaker.acquire": "what the breaker is for", "breaker.settle": "one's own",
}  # fmt: skip


def test_every_act_of_an_admin_is_audited_and_all_else_says_why_not() -> None:
    audited = {method.name: method.audit for method in METHODS if method.audit != "never"}
    looks = {name for name, audit in audited.items() if audit == "refusals"}
    assert looks == {"config.get", "config.diff"}
    assert {name for name, audit in audited.items() if audit == "always"} == ADMIN - looks
    only_in_part = [method.name for method in METHODS if method.only_reads is not None]
    assert only_in_part == ["system.log_level"]
    assert set(NOT_ACTS) == MAY_CALL["admin"] - set(audited)


def test_a_new_method_for_admins_is_audited_without_being_told_to() -> None:
    made = _method("gpu.explode", "admin", "public", len, wire.NoParams, wire.Done, "Explode")
    assert made.audit == "always"


def test_every_method_is_in_the_matrix_once() -> None:
    names = [method.name for method in METHODS]
    assert len(names) == len(set(names))
    assert set(names) == MAY_CALL["admin"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_a_role_may_call_what_the_matrix_says(
    tmp_path: Path, method: Method, role: wire.Role
) -> None:
    async with daemon(tmp_path, role=role) as built:
        answer = await (await built.client()).call(method.name, PARAMS.get(method.name))
    if method.name in MAY_CALL[role]:
        assert "result" in answer
        if method.result != dict[str, Any]:
            msgspec.convert(answer["result"], method.result)
    else:
        error = answer["error"]
        assert error["data"]["kind"] == "permission_denied"
        assert error["data"]["needs"] == method.role
        assert RANK[method.role] > RANK[role]
        assert "Join the group superezio" in error["message"]
        assert built.leases.calls == []


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_row_says_what_its_handler_takes_and_gives(method: Method) -> None:
    hints = typing.get_type_hints(method.handler)
    returned = hints.pop("return")
    assert method.params in hints.values()
    alternatives = set(typing.get_args(returned) or (returned,))
    if method.waiting is not None:
        # None says that it has to wait: what is awaited then comes of another function.
        assert type(None) in alternatives, "a hot one says so where it has to wait"
        alternatives.remove(type(None))
        waiting = typing.get_type_hints(method.waiting)
        alternatives.add(waiting.pop("return"))
        assert method.params in waiting.values()
    awaited = {each for each in alternatives if typing.get_origin(each) is Awaitable}
    assert method.may_wait == (bool(awaited) or inspect.iscoroutinefunction(method.handler))
    if method.name != "rpc.discover":
        assert alternatives - awaited == {bytes if method.hot else method.result}
    assert all(typing.get_args(each) == (method.result,) for each in awaited)
    assert (method.handler.__doc__ or "").endswith(".")
    assert not method.summary.endswith(".")


def test_the_clients_know_the_same_methods() -> None:
    known = {name for name, _ in inspect.getmembers(calls, inspect.isfunction)}
    missing = {method.name for method in METHODS if method.name.replace(".", "_") not in known} - {
        "events.unsubscribe",
        "rpc.cancel",
    }
    assert missing == set()


def test_a_method_that_nothing_handles_is_found_at_once() -> None:
    with pytest.raises(ValueError, match=r"nothing handles system\.ping"):
        bind(METHODS, [])


# --- the document -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(openrpc_document(METHODS, version="1.2.3"))
    return decoded


def test_the_document_is_valid_openrpc(document: dict[str, Any]) -> None:
    openrpc = json.loads((DATA / "openrpc-meta-schema.json").read_text())
    schema = json.loads((DATA / "json-schema-meta-schema.json").read_text())
    # Both name themselves as their own dialect, which no validator knows.
    for each in (openrpc, schema):
        each["$schema"] = "http://json-schema.org/draft-07/schema#"
    resource: Resource[Any] = Resource.from_contents(schema)
    registry: Registry[Any] = Registry().with_resources(
        [
            ("https://meta.json-schema.tools", resource),
            ("https://meta.json-schema.tools/", resource),
        ]
    )
    jsonschema.Draft7Validator(openrpc, registry=registry).validate(document)


def test_every_reference_in_the_document_resolves(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [each for value in node.values() for each in references(value)]
        if isinstance(node, list):
            return [each for value in node for each in references(value)]
        return []

    for reference in references(document):
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_document_carries_the_matrix(document: dict[str, Any]) -> None:
    access = {each["name"]: each["x-access"] for each in document["methods"]}
    assert access == {
        method.name: {"role": method.role, "visibility": method.visibility} for method in METHODS
    }


async def test_an_answer_fits_the_document(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        client = await built.client()
        document = (await client.call("rpc.discover"))["result"]
        gpus = (await client.call("gpu.list"))["result"]
        assert (await client.call("rpc.discover"))["result"] == document
    assert gpus["gpus"][0]["uuid"] == GPU_A
    result = next(each for each in document["methods"] if each["name"] == "gpu.list")["result"]
    schema = {**result["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(gpus)
