"""From a line to a typed call, or to the error that the line deserves.

The fast path decodes straight into the struct of the method, chosen by its name: one tagged union
over all methods. Only a line that does not fit is looked at again, piece by piece, to find out
what is wrong with it (or that it merely has its parameters by position).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Final, Literal, Union

import msgspec
from msgspec import UNSET, Struct, UnsetType

from superezio.errors import (
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    ParseError,
    SuperezioError,
)
from superezio.wire import Meta, Params

#: UNSET is a notification, to which nothing is answered.
RequestId = int | float | str | UnsetType | None

#: That of a request that has to be answered.
_AnsweredId = int | float | str | None

#: What decoding may raise: not JSON or not the type, not UTF-8, nested too deep.
UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)


class Call(Struct, kw_only=True, gc=False, tag_field="method"):
    """A request as it came in. Each method has its own subclass, with its type of `params`."""

    jsonrpc: Literal["2.0"]
    params: Any
    id: RequestId = UNSET
    meta: Meta | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """A line, or a member of a batch, that is no call. With id UNSET nobody is told.

    `method` is the one it would have been a call of, where that can be told and there is one;
    `params` are its own, where they could be read.
    """

    id: RequestId
    error: SuperezioError
    meta: Meta | None = None
    method: str | None = None
    params: Params | None = None


class Batch(Struct, frozen=True):
    """The members of a batch, at least one."""

    items: list[Call | Refusal]


class Signature(Struct, frozen=True):
    """A method as far as decoding is concerned."""

    name: str
    params: type[Params]
    #: See `Method`.
    hands_out: Callable[[Any], bool] | None = None


class RequestDecoder:
    """Decodes the calls of one table of methods."""

    def __init__(self, signatures: Iterable[Signature], *, max_batch: int) -> None:
        self._signatures = {each.name: each for each in signatures}
        self.call_types: dict[str, type[Call]] = {
            name: _call_type(each) for name, each in self._signatures.items()
        }
        union: Any = Union[tuple(self.call_types.values())]  # noqa: UP007 - built at run time
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union)
        #: The call of one line. Raises UNREADABLE where it is no plain call.
        self.decode: Callable[[bytes], Call] = decoder.decode
        #: The calls of a chunk of whole lines. Raises UNREADABLE where one is no plain call.
        self.decode_lines: Callable[[bytes], list[Call]] = decoder.decode_lines
        self._max_batch = max_batch

    def line(self, line: bytes) -> Call | Refusal | Batch:
        """Return what one line is."""
        try:
            call: Call = self.decode(line)
        except UNREADABLE:
            return self._look_again(line)
        return call

    def _look_again(self, line: bytes) -> Call | Refusal | Batch:
        try:
            content = msgspec.json.decode(line)
        except UNREADABLE as error:
            return Refusal(id=None, error=ParseError(f"cannot read the line as JSON: {error}"))
        if not isinstance(content, list):
            return self._call(content)
        if not content:
            return _invalid(None, "a batch needs at least one request")
        if len(content) > self._max_batch:
            return _invalid(None, f"a batch may have up to {self._max_batch} requests")
        return Batch([self._call(each) for each in content])

    def _call(self, content: object) -> Call | Refusal:
        if not isinstance(content, dict):
            return _invalid(None, "a request has to be an object")
        name = content.get("method")
        method = name if isinstance(name, str) and name in self._signatures else None
        request_id = content.get("id", UNSET)
        if isinstance(request_id, bool) or not isinstance(request_id, RequestId):
            return _invalid(None, "id has to be a string, a number or null", method)
        answer_to = None if request_id is UNSET else request_id
        fault = _fault(content)
        if fault is not None:
            return _invalid(answer_to, fault, method)
        try:
            meta = msgspec.convert(content.get("meta"), Meta | None)
        except msgspec.ValidationError as error:
            return _invalid(answer_to, f"cannot read meta: {error}", method)
        return self._typed(content["method"], request_id, content.get("params", {}), meta)

    def _typed(
        self,
        name: str,
        request_id: RequestId,
        params: dict[str, Any] | list[Any],
        meta: Meta | None,
    ) -> Call | Refusal:
        signature = self._signatures.get(name)
        if signature is None:
            error: SuperezioError = MethodNotFoundError(
                f"no method {name!r}: rpc.discover lists those there are"
            )
            return Refusal(id=request_id, error=error, meta=meta)
        try:
            typed = msgspec.convert(_by_name(params, signature.params), signature.params)
        except (msgspec.ValidationError, InvalidParamsError) as why:
            error = InvalidParamsError(f"cannot read the params of {name}: {why}")
            return Refusal(id=request_id, error=error, meta=meta, method=name)
        hands_out = signature.hands_out
        if request_id is UNSET and hands_out is not None and hands_out(typed):
            error = InvalidRequestError(
                f"{name} has to have an id: nobody would hear what it hands out, to give it back"
            )
            return Refusal(id=UNSET, error=error, meta=meta, method=name, params=typed)
        return self.call_types[name](jsonrpc="2.0", id=request_id, params=typed, meta=meta)


def _fault(content: dict[str, object]) -> str | None:
    if content.get("jsonrpc") != "2.0":
        return 'jsonrpc has to be "2.0"'
    if not isinstance(content.get("method"), str):
        return "method has to be a string"
    if not isinstance(content.get("params", {}), dict | list):
        return "params has to be an object or an array, or left out"
    return None


def _invalid(answer_to: RequestId, why: str, method: str | None = None) -> Refusal:
    error = InvalidRequestError(f"not a JSON-RPC 2.0 request: {why}")
    return Refusal(id=answer_to, error=error, method=method)


def _by_name(params: dict[str, Any] | list[Any], params_type: type[Params]) -> dict[str, Any]:
    if isinstance(params, dict):
        return params
    names = params_type.__struct_fields__
    if len(params) > len(names):
        raise InvalidParamsError(f"{len(params)} given by position, there are {len(names)}")
    return dict(zip(names, params, strict=False))


def _call_type(signature: Signature) -> type[Call]:
    name, params = signature.name, signature.params
    # One without an id is no plain call then, and is looked at again: it costs the others nothing.
    answered = () if signature.hands_out is None else (("id", _AnsweredId),)
    required = any(field.required for field in msgspec.structs.fields(params))
    # Params are never changed, so that one default serves all calls.
    default = () if required else (_constant(params()),)
    made: Any = msgspec.defstruct(
        "Call_" + name.replace(".", "_"),
        [("params", params, *default), *answered],
        bases=(Call,),
        tag=name,
        kw_only=True,
        gc=False,
    )
    call_type: type[Call] = made
    return call_type


def _constant(value: Params) -> Any:  # noqa: ANN401 - what msgspec.field gives
    # In C: a function of Python's would be called for each request.
    return msgspec.field(default_factory=repeat(value).__next__)
