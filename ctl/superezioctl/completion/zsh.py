"""The script for zsh, on _arguments."""

from __future__ import annotations

from superezioctl.completion import grammar
from superezioctl.completion.grammar import Flag, Syntax, Word

_SCRIPT = r"""#compdef superezioctl
# zsh completion for superezioctl; made by `superezioctl completion zsh`.

# Offer what the daemon knows.
_superezioctl_ask() {
    local -a found
    local value text
    while IFS=$'\t' read -r value text; do
        found+=("${value//:/\\:}:${text//:/\\:}")
    done < <($program ${socket:+--socket=$socket} completion $1 2>/dev/null)
    _describe -t $1 $1 found
}

_superezioctl() {
    local curcontext=$curcontext context state state_descr line program=$words[1] socket= ret=1
    local -A opt_args
    local -a common words_here
    integer at=$words[(I)--socket]
    (( at )) && socket=${(Q)words[at + 1]}
    at=$words[(I)--socket=*]
    (( at )) && socket=${(Q)words[at]#*=}
    common=(
@COMMON@
    )
    _arguments -C $common '1: :->first' '*:: :->after' && ret=0
    case $state in
        first)
            words_here=(
@FIRSTS@
            )
            _describe -t commands command words_here && ret=0
            ;;
        after)
            case $words[1] in
@AFTER@
            esac
            ;;
    esac
    return ret
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _superezioctl "$@"
else
    compdef _superezioctl superezioctl
fi
"""
_FAMILY = """
@FAMILY@)
    _arguments -C $common '1: :->second' '*:: :->deep' && ret=0
    case $state in
        second)
            words_here=(
@SECONDS@
            )
            _describe -t commands '@FAMILY@ command' words_here && ret=0
            ;;
        deep)
            case $words[1] in
@DEEP@
            esac
            ;;
    esac
    ;;"""
#: A leading space: to be called as it stands, without options of compadd.
_ACTIONS = {
    "none": " ",
    "files": "_files",
    "pids": "_pids",
    "users": "_users",
    "gpus": " _superezioctl_ask gpus",
    "leases": " _superezioctl_ask leases",
    "methods": " _superezioctl_ask methods",
    "models": " _superezioctl_ask models",
    "breakers": " _superezioctl_ask breakers",
    "limits": " _superezioctl_ask limits",
    "namespaces": " _superezioctl_ask namespaces",
    "keys": " _superezioctl_ask keys",
}


def script() -> str:
    """Return the script."""
    by_name = {command.name: command for command in grammar.commands()}
    families = grammar.second_words()
    arms = [
        _family(first, families[first], by_name)
        if first in families
        else _command(first, by_name[first])
        for first in grammar.first_words()
    ]
    parts = {
        "COMMON": (8, "\n".join(_flags(grammar.common()))),
        "FIRSTS": (16, "\n".join(_described(grammar.first_words()))),
        "AFTER": (16, "\n".join(arms)),
    }
    return _filled(_SCRIPT, parts)


def _family(first: str, seconds: dict[str, str], by_name: dict[str, Syntax]) -> str:
    deep = [_command(second, by_name[f"{first} {second}"]) for second in seconds]
    text = _FAMILY.strip("\n").replace("@FAMILY@", first)
    parts = {
        "SECONDS": (16, "\n".join(_described(seconds))),
        "DEEP": (16, "\n".join(deep)),
    }
    return _filled(text, parts)


def _command(word: str, command: Syntax) -> str:
    specs = [*_flags(command.flags), *_words(command.words)]
    lines = [f"{word})", "    _arguments -S $common \\"]
    lines += [f"        {spec} \\" for spec in specs]
    return "\n".join([*lines, "        && ret=0", "    ;;"])


def _flags(flags: tuple[Flag, ...]) -> list[str]:
    return [_flag(flag, name) for flag in flags for name in flag.names]


def _flag(flag: Flag, name: str) -> str:
    others = "" if len(flag.names) == 1 else f"({' '.join(flag.names)})"
    start = "*" if flag.repeat else others
    summary = f"[{_plain(flag.summary)}]"
    if flag.value is None:
        return _quoted(f"{start}{name}{summary}")
    long = "=" if name.startswith("--") else "+"
    return _quoted(f"{start}{name}{long}{summary}:{flag.metavar}:{_action(flag.value)}")


def _words(words: tuple[Word, ...]) -> list[str]:
    specs = []
    for place, word in enumerate(words, start=1):
        if word.value == "command":
            specs += [_quoted(f"(-){place}:{word.name}:_command_names -e")]
            specs += [_quoted("*::argument:_normal")]
        else:
            position = "*" if word.rest else place
            specs.append(_quoted(f"{position}:{word.name}:{_action(word.value)}"))
    return specs


def _action(value: str) -> str:
    return f"({value[1:]})" if value.startswith("=") else _ACTIONS[value]


def _described(words: dict[str, str]) -> list[str]:
    return [_quoted(f"{word}:{_plain(summary)}") for word, summary in words.items()]


def _plain(text: str) -> str:
    """Return text without a meaning to _arguments."""
    for mark in "\\[]:":
        text = text.replace(mark, f"\\{mark}")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _filled(text: str, parts: dict[str, tuple[int, str]]) -> str:
    for name, (columns, lines) in parts.items():
        indented = "\n".join(" " * columns + line for line in lines.splitlines())
        text = text.replace(f"@{name}@", indented)
    return text
