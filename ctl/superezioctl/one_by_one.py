"""The same for several things: each is told of at once, and what fails hides none of the others."""

from __future__ import annotations

import json

from superezio.errors import (
    NotFoundError,
    PermissionDeniedError,
    StaleLeaseError,
    StateNotWritableError,
    SuperezioError,
)
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from superezioctl.context import Context

#: What says nothing of the next one. After anything else the next would fail alike.
_OF_ONE = (StaleLeaseError, PermissionDeniedError, NotFoundError, StateNotWritableError)


def do_to_each(
    context: Context,
    names: Sequence[str],
    *,
    do: Callable[[str], dict[str, Any]],
    told: Callable[[dict[str, Any]], str],
    key: str,
) -> int:
    """Do it to each, and return the exit code of the first that failed.

    For programs the document is the answer about one, and a list about several, in which one that
    failed has an `error`; `key` names it, and those that were not tried are left out. For people
    `told` makes a line of an answer.
    """
    if len(names) == 1:
        _answer(context, do(names[0]), told)
        return DONE
    code = DONE
    answers: list[dict[str, Any]] = []
    for name in names:
        try:
            answer = do(name)
        except SuperezioError as error:
            goes_on = isinstance(error, _OF_ONE)
            if not answers and not goes_on:
                raise
            from superezioctl import failures  # noqa: PLC0415 - paid for on failure only

            answers.append({key: name, "error": failures.members(error)})
            failed = failures.tell(error, context)
            code = failed if code == DONE else code
            if not goes_on:
                break
        else:
            answers.append(answer)
            if not context.out.json:
                context.out.line(told(answer))
    if context.out.json:
        context.out.document(json.dumps(answers, ensure_ascii=False).encode())
    return code


def _answer(
    context: Context, answer: dict[str, Any], told: Callable[[dict[str, Any]], str]
) -> None:
    if context.out.json:
        context.out.document(json.dumps(answer, ensure_ascii=False).encode())
    else:
        context.out.line(told(answer))
