"""The script for bash. It needs bash 4.3 and nothing else."""

from __future__ import annotations

from superezioctl.completion import grammar
from superezioctl.completion.grammar import Flag, Syntax

_SCRIPT = r"""# bash completion for superezioctl; made by `superezioctl completion bash`.

# What follows an option of a command: nothing for a flag, else where its value comes from.
_superezioctl_value_of() {
    case "$1:$2" in
@VALUES@
        *) REPLY= ;;
    esac
}

_superezioctl_options_of() {
    REPLY='@COMMON@'
    case "$1" in
@OPTIONS@
    esac
}

# What the word at a place, counted from 0, of a command is; with a + it is all that follow, too.
_superezioctl_word_of() {
    case "$1:$2" in
@WORDS@
        *) REPLY=none ;;
    esac
}

_superezioctl_offer() {
    local value
    case "$1" in
        =*)
            mapfile -t COMPREPLY < <(compgen -W "${1#=}" -- "$2")
            # A word that is to go on, as `exec=`.
            [[ ${COMPREPLY[*]} == *[=.] ]] && compopt -o nospace 2>/dev/null
            ;;
        files) mapfile -t COMPREPLY < <(compgen -f -- "$2"); compopt -o filenames 2>/dev/null ;;
        pids)
            value=${2//[!0-9]/}
            mapfile -t COMPREPLY < <(cd /proc && compgen -G "${value:-[0-9]}*")
            ;;
        command) mapfile -t COMPREPLY < <(compgen -c -- "$2") ;;
        users) mapfile -t COMPREPLY < <(compgen -u -- "$2") ;;
        gpus | leases | methods | breakers | limits | namespaces | models | keys)
            while IFS=$'\t' read -r value _; do
                [[ $value == "$2"* ]] && COMPREPLY+=("$value")
            done < <("$program" ${socket:+--socket "$socket"} completion "$1" 2>/dev/null)
            # Of `0:1` readline replaces what is behind the colon.
            [[ $2 == *:* && $COMP_WORDBREAKS == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${2%:*}:"}")
            ;;
    esac
}

_superezioctl() {
    local -a words=()
    local program=$1 command= family= expects= option= socket= only_words= glue= word cur i place=0
    local REPLY
    COMPREPLY=()
    # Readline takes `--name=value` for three words, and so `0:1`.
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' && ${#words[@]} -gt 0 && ${words[-1]} == --* ]]; then
            words[-1]+='='
            glue=1
        elif [[ $word == ':' && ${#words[@]} -gt 0 && ${words[-1]} =~ (^|=)[0-9]+$ ]]; then
            words[-1]+=':'
            glue=1
        elif [[ -n $glue ]]; then
            words[-1]+=$word
            glue=
        else
            words+=("$word")
        fi
    done
    ((${#words[@]})) || words=('')
    cur=${words[-1]}
    unset 'words[-1]'

    for word in "${words[@]}"; do
        if [[ -n $expects ]]; then
            [[ $option == --socket ]] && socket=$word
            expects=
        elif [[ -z $only_words && $word == -- ]]; then
            only_words=1
        elif [[ -z $only_words && $word == --socket=* ]]; then
            socket=${word#*=}
        elif [[ -z $only_words && $word == -*=* ]]; then
            continue
        elif [[ -z $only_words && $word == -?* ]]; then
            _superezioctl_value_of "$command" "$word"
            expects=$REPLY option=$word
        elif [[ -n $command ]]; then
            _superezioctl_word_of "$command" "$place"
            [[ $REPLY == *+ ]] && only_words=1
            [[ $REPLY == command+ ]] && { _superezioctl_offer files "$cur"; return; }
            [[ $REPLY == *+ ]] || ((place += 1))
        elif [[ -n $family ]]; then
            command="$family $word"
        else
            case "$word" in
                @FAMILIES@) family=$word ;;
                *) command=$word ;;
            esac
        fi
    done

    if [[ -n $expects ]]; then
        _superezioctl_offer "$expects" "$cur"
    elif [[ -z $only_words && $cur == -*=* ]]; then
        _superezioctl_value_of "$command" "${cur%%=*}"
        _superezioctl_offer "$REPLY" "${cur#*=}"
    elif [[ -z $only_words && $cur == -* ]]; then
        _superezioctl_options_of "$command"
        _superezioctl_offer "=$REPLY" "$cur"
    elif [[ -n $command ]]; then
        _superezioctl_word_of "$command" "$place"
        _superezioctl_offer "${REPLY%+}" "$cur"
    else
        case "$family" in
@SECONDS@
            *) REPLY='@FIRSTS@' ;;
        esac
        _superezioctl_offer "=$REPLY" "$cur"
    fi
}

complete -F _superezioctl superezioctl
"""


def script() -> str:
    """Return the script."""
    commands = grammar.commands()
    seconds = grammar.second_words()
    parts = {
        "VALUES": [
            *_values("*", grammar.common()),
            *(arm for command in commands for arm in _values(command.name, command.flags)),
        ],
        "OPTIONS": [_options(command) for command in commands if command.flags],
        "WORDS": [arm for command in commands for arm in _words(command)],
        "SECONDS": [
            f"    {family}) REPLY='{' '.join(words)}' ;;" for family, words in seconds.items()
        ],
    }
    text = _SCRIPT
    for name, arms in parts.items():
        text = text.replace(f"@{name}@", "\n".join(f"        {arm}" for arm in arms))
    text = text.replace("@COMMON@", " ".join(_names(grammar.common())))
    text = text.replace("@FIRSTS@", " ".join(grammar.first_words()))
    return text.replace("@FAMILIES@", " | ".join(seconds))


def _values(name: str, flags: tuple[Flag, ...]) -> list[str]:
    pattern = name if name == "*" else f'"{name}"'
    return [
        f"{pattern}:{option}) REPLY='{flag.value}' ;;"
        for flag in flags
        if flag.value is not None
        for option in flag.names
    ]


def _options(command: Syntax) -> str:
    return f"""'{command.name}') REPLY+=' {" ".join(_names(command.flags))}' ;;"""


def _words(command: Syntax) -> list[str]:
    return [
        f"'{command.name}:{place}') REPLY='{word.value}{'+' if word.rest else ''}' ;;"
        for place, word in enumerate(command.words)
    ]


def _names(flags: tuple[Flag, ...]) -> list[str]:
    return [name for flag in flags for name in flag.names]
