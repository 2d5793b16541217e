"""The script for fish, by its `complete`."""

from __future__ import annotations

from superezioctl.completion import grammar
from superezioctl.completion.grammar import Flag, Syntax

_SCRIPT = r"""# fish completion for superezioctl; made by `superezioctl completion fish`.

# Say whether an option of a command takes a value.
function __superezioctl_takes_value
    contains -- $argv[2] @COMMON@; and return 0
    switch $argv[1]
@VALUED@
    end
    return 1
end

# Print the command that is typed, a line, and then the further words of it, a line each. A third
# kind of line, the first of all, is the socket that is named.
function __superezioctl_typed
    set -l socket ''
    set -l command ''
    set -l family ''
    set -l expects ''
    set -l only_words ''
    set -l rest
    for word in (commandline -opc)[2..-1]
        if test -n "$expects"
            test "$expects" = --socket; and set socket $word
            set expects ''
        else if test -z "$only_words"; and test "$word" = --
            set only_words 1
        else if test -z "$only_words"; and string match -q -- '--socket=*' $word
            set socket (string replace -- '--socket=' '' $word)
        else if test -z "$only_words"; and string match -q -- '-*=*' $word
            continue
        else if test -z "$only_words"; and string match -q -- '-?*' $word
            __superezioctl_takes_value "$command" $word; and set expects $word
        else if test -n "$command"
            set -a rest $word
            contains -- "$command" @RUNNERS@; and set only_words 1
        else if test -n "$family"
            set command "$family $word"
        else if contains -- $word @FAMILIES@
            set family $word
            set -a rest $word
        else
            set command $word
        end
    end
    test -n "$command"; and test -n "$family"; and set -e rest[1]
    printf '%s\n' "$socket" "$command" $rest
end

# Say whether the cursor is at the first word, or behind the family.
function __superezioctl_at_first
    set -l typed (__superezioctl_typed)
    test -z "$typed[2]"; and test (count $typed) -eq 2
end

function __superezioctl_at_second
    set -l typed (__superezioctl_typed)
    test -z "$typed[2]"; and test "$typed[3]" = $argv[1]
end

# Say whether the command is this one, and if a place is given, whether the cursor is there; with a
# + it is there or behind.
function __superezioctl_in
    set -l typed (__superezioctl_typed)
    test "$typed[2]" = $argv[1]; or return 1
    set -q argv[2]; or return 0
    set -l place (math (count $typed) - 2)
    if string match -q -- '*+' $argv[2]
        test $place -ge (string trim -r -c + -- $argv[2])
    else
        test $place -eq $argv[2]
    end
end

# Offer what the daemon knows.
function __superezioctl_ask
    set -l socket (__superezioctl_typed)[1]
    set -l program (commandline -opc)[1]
    if test -n "$socket"
        command $program --socket $socket completion $argv[1] 2>/dev/null
    else
        command $program completion $argv[1] 2>/dev/null
    end
end

# Complete a command line that stands within this one.
function __superezioctl_within
    set -l words (__superezioctl_typed)[3..-1] (commandline -ct)
    string match -q -- '-*' $words[1]; and return
    complete -C (string join ' ' -- (string escape -n -- $words))
end

complete -c superezioctl -f
@COMPLETE@
"""
_OFFERS = {
    "none": "",
    "users": "(__fish_complete_users)",
    "pids": "(__fish_complete_pids)",
    "command": "(__superezioctl_within)",
    "gpus": "(__superezioctl_ask gpus)",
    "leases": "(__superezioctl_ask leases)",
    "methods": "(__superezioctl_ask methods)",
    "models": "(__superezioctl_ask models)",
    "breakers": "(__superezioctl_ask breakers)",
    "limits": "(__superezioctl_ask limits)",
    "namespaces": "(__superezioctl_ask namespaces)",
    "keys": "(__superezioctl_ask keys)",
}


def script() -> str:
    """Return the script."""
    commands = grammar.commands()
    families = grammar.second_words()
    lines = [
        _line("__superezioctl_at_first", offer=word, summary=summary)
        for word, summary in grammar.first_words().items()
    ]
    lines += [
        _line(f"__superezioctl_at_second {family}", offer=word, summary=summary)
        for family, words in families.items()
        for word, summary in words.items()
    ]
    lines += [_flag(flag, None) for flag in grammar.common()]
    for command in commands:
        lines += [_flag(flag, command.name) for flag in command.flags]
        lines += _words(command)
    runners = [c.name for c in commands if any(word.value == "command" for word in c.words)]
    return (
        _SCRIPT.replace("@COMMON@", " ".join(_valued(grammar.common())))
        .replace("@VALUED@", "\n".join(map(_case, filter(_has_valued, commands))))
        .replace("@RUNNERS@", " ".join(map(_quoted, runners)))
        .replace("@FAMILIES@", " ".join(families))
        .replace("@COMPLETE@", "\n".join(lines))
    )


def _case(command: Syntax) -> str:
    names = " ".join(_valued(command.flags))
    test = f"contains -- $argv[2] {names}; and return 0"
    return f"        case {_quoted(command.name)}\n            {test}"


def _has_valued(command: Syntax) -> bool:
    return bool(_valued(command.flags))


def _valued(flags: tuple[Flag, ...]) -> list[str]:
    return [name for flag in flags if flag.value is not None for name in flag.names]


def _flag(flag: Flag, command: str | None) -> str:
    condition = f"__superezioctl_in {_quoted(command)}" if command is not None else None
    names = ""
    for name in flag.names:
        names += f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
    if flag.value is None:
        return _line(condition, options=names, summary=flag.summary)
    if flag.value == "files":
        return _line(condition, options=f"{names} -r -F", summary=flag.summary)
    return _line(condition, options=f"{names} -x", offer=_offer(flag.value), summary=flag.summary)


def _words(command: Syntax) -> list[str]:
    lines = []
    for place, word in enumerate(command.words):
        where = f"{place}+" if word.rest else place
        condition = f"__superezioctl_in {_quoted(command.name)} {where}"
        if word.value == "files":
            lines.append(_line(condition, options=" -F", summary=""))
        elif _offer(word.value):
            lines.append(_line(condition, offer=_offer(word.value), summary=""))
    return lines


def _offer(value: str) -> str:
    return value[1:] if value.startswith("=") else _OFFERS[value]


def _line(condition: str | None, *, options: str = "", offer: str = "", summary: str) -> str:
    line = "complete -c superezioctl"
    line += f" -n {_quoted(condition)}" if condition else ""
    line += options
    line += f" -a {_quoted(offer)}" if offer else ""
    return line + (f" -d {_quoted(summary)}" if summary else "")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
