from __future__ import annotations

import pytest

from superezio import errors


@pytest.mark.parametrize("kind", sorted(errors.BY_KIND))
def test_an_error_comes_back_from_the_wire_as_its_class(kind: str) -> None:
    cls = errors.BY_KIND[kind]
    data = {"kind": kind, "correlation_id": "c1", "retry_after_ms": 5, "more": 1}
    error = errors.from_wire(cls.code, "why", data)
    assert type(error) is cls
    assert (error.kind, error.code, error.message) == (kind, cls.code, "why")
    assert (error.correlation_id, error.retry_after_ms, error.data) == ("c1", 5, {"more": 1})
    assert data["kind"] == kind


def test_an_unknown_kind_keeps_kind_and_code() -> None:
    error = errors.from_wire(-31999, "new", {"kind": "brand_new"})
    assert type(error) is errors.SuperezioError
    assert (error.kind, error.code) == ("brand_new", -31999)
    assert errors.SuperezioError.kind == "internal_error"
    assert errors.from_wire(-32000, "bare", None).kind == "unknown"


def test_kinds_and_codes_are_unique() -> None:
    codes = [cls.code for cls in errors.BY_KIND.values()]
    assert len(set(codes)) == len(codes)


def test_what_a_client_raises_itself_is_not_on_the_wire() -> None:
    for cls in (
        errors.DaemonNotRunningError,
        errors.ReplyTimeoutError,
        errors.ConnectionLostError,
    ):
        assert cls.kind not in errors.BY_KIND
