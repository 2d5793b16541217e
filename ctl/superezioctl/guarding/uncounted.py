"""Amounts that a call gives and its limit has no rate for: who gives one thinks that it has."""

from __future__ import annotations

from superezio.errors import SuperezioError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context
    from superezioctl.guarding.shields import Ask

#: What makes a limit of one's own count it. Slots are of shared ones alone.
_OPTIONS = {"tokens": "--token-rate 90000/1m", "money": "--money-rate 5.00/1h", "slots": None}


def tell(context: Context, ask: Ask) -> None:
    """Say on standard error what of the call is not counted. The call goes on as it is."""
    arguments = context.arguments
    given = [cost for cost in _OPTIONS if arguments[cost] is not None]
    if not given:
        return
    name, key = arguments["name"], arguments["key"]
    try:
        counted = _counted(ask, name, key)
    except SuperezioError:
        return  # the call has its room: this is a remark
    for cost in given:
        if cost in counted:
            continue
        option = _OPTIONS[cost]
        own = "" if option is None else f"{option} of a limit of your own, or "
        context.out.note(
            f"superezioctl guard: nothing counts {cost} of {name}: {own}[limit.shared.{name}] of"
            " the configuration would"
        )


def _counted(ask: Ask, name: str, key: str | None) -> set[str]:
    """Return what the limit has a rate, slots or a cap for, in the words of the command line."""
    state = ask("limit.peek", {"name": name} if key is None else {"name": name, "key": key})
    counted = {budget["dimension"] for budget in state["budgets"]}
    if state["spend"]:
        counted.add("money")
    return {"slots" if each == "concurrency" else each for each in counted}
