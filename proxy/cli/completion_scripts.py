"""The completion scripts of three shells, from one set of tables.

bash and zsh walk the words by the same `case` tables; fish has conditions of its own and gets one line per option.
Words of ours have no quotes, and help texts are quoted as each shell wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from proxy.cli.completion_tables import Command, Option, Value

_BASH = r"""# bash completion of proxyctl; made by `proxyctl completion bash`

_proxyctl_walk() {  # sets place, places (positionals so far) and waiting (the option whose value comes next)
  local word
  place= places=0 waiting=
  for word in "$@"; do
    # Readline splits words at : and =, so an address comes in pieces, and a value may follow a = of its own.
    if [[ $word == : ]]; then
      waiting=:
      continue
    elif [[ -n $waiting ]]; then
      [[ $word == = ]] || waiting=
      continue
    fi
    _proxyctl_table "$place"
    if [[ $word == -* ]]; then
      [[ " $valued " == *" $word "* ]] && waiting=$word
    elif [[ " $children " == *" $word "* ]]; then
      place="${place:+$place }$word" places=0
    else
      places=$((places + 1))
    fi
  done
  _proxyctl_table "$place"
}

_proxyctl() {
  local place places waiting options valued children cur=${COMP_WORDS[COMP_CWORD]} value
  [[ $cur == = ]] && cur=
  _proxyctl_walk "${COMP_WORDS[@]:1:COMP_CWORD-1}"
  # `--option=` is split at the = by readline.
  if [[ ${COMP_WORDS[COMP_CWORD]} == = && " $valued " == *" ${COMP_WORDS[COMP_CWORD-1]} "* ]]; then
    waiting=${COMP_WORDS[COMP_CWORD-1]}
  fi
  COMPREPLY=()
  if [[ -n $waiting ]]; then
    _proxyctl_value "$place" "$waiting"
  elif [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    return
  elif [[ -n $children ]]; then
    COMPREPLY=($(compgen -W "$children" -- "$cur"))
    return
  else
    _proxyctl_value "$place" "$places"
  fi
  if [[ $value == FILES ]]; then
    compopt -o filenames 2>/dev/null
    local IFS=$'\n'
    COMPREPLY=($(compgen -f -- "$cur"))
  elif [[ -n $value ]]; then
    COMPREPLY=($(compgen -W "$value" -- "$cur"))
  fi
}
"""

_ZSH = r"""#compdef proxyctl
# zsh completion of proxyctl; made by `proxyctl completion zsh`

_proxyctl_walk() {
  local word
  local -a names
  place= places=0 waiting=
  for word in "$@"; do
    if [[ -n $waiting ]]; then
      waiting=
      continue
    fi
    _proxyctl_table "$place"
    if [[ $word == -* ]]; then
      [[ " $valued " == *" $word "* ]] && waiting=$word
    elif names=(${children%%:*}); (( ${names[(Ie)$word]} )); then
      place="${place:+$place }$word" places=0
    else
      places=$((places + 1))
    fi
  done
  _proxyctl_table "$place"
}

_proxyctl() {
  local place places waiting valued value
  local -a options children
  _proxyctl_walk "${(@Q)words[2,CURRENT-1]}"
  if [[ -z $waiting && $PREFIX == --*=* && " $valued " == *" ${PREFIX%%=*} "* ]]; then
    waiting=${PREFIX%%=*}
    compset -P '*='
  fi
  if [[ -n $waiting ]]; then
    _proxyctl_value "$place" "$waiting"
  elif [[ $PREFIX == -* ]]; then
    _describe -o option options
    return
  elif (( $#children )); then
    _describe command children
    return
  else
    _proxyctl_value "$place" "$places"
  fi
  if [[ $value == FILES ]]; then
    _files
  elif [[ -n $value ]]; then
    compadd -- ${=value}
  fi
}
"""

_ZSH_END = r"""
if [[ $funcstack[1] == _proxyctl ]]; then
  _proxyctl "$@"  # autoloaded from a folder of $fpath
else
  compdef _proxyctl proxyctl
fi
"""

_FISH = r"""# fish completion of proxyctl; made by `proxyctl completion fish`

function __proxyctl_at --description 'is this the command, and this the number of positionals, before the cursor?'
    set -l place
    set -l places 0
    set -l waiting
    for word in (commandline -opc)[2..]
        if set -q waiting[1]
            set waiting
            continue
        end
        set -l key "$place"
        if string match -q -- '-*' $word
            contains -- $word (__proxyctl_valued "$key"); and set waiting $word
        else if contains -- $word (__proxyctl_children "$key")
            set place (string trim -- "$place $word")
            set places 0
        else
            set places (math $places + 1)
        end
    end
    test "$place" = "$argv[1]"; or return 1
    test (count $argv) -lt 2; or test $places $argv[3] $argv[2]
end

complete -c proxyctl -f
"""


def bash(commands: list[Command]) -> str:
    """The script for bash."""
    rows = []
    for each in commands:
        children = " ".join(name for name, _ in each.children)
        lists = f"options='{_names(each.options)}' valued='{_names(_valued(each))}' children='{children}'"
        rows.append((_key(each), lists))
    tables = _table("_proxyctl_table", "options= valued= children=", rows)
    return f"{_BASH}\n{tables}\n{_values(commands)}\ncomplete -F _proxyctl proxyctl\n"


def zsh(commands: list[Command]) -> str:
    """The script for zsh; it may be sourced, or be a file `_proxyctl` in a folder of $fpath."""

    def described(pairs: Iterable[tuple[str, str]]) -> str:
        return " ".join(_single(f"{name}:{text}") for name, text in pairs)

    rows = []
    for each in commands:
        options = described((name, option.help) for option in each.options for name in option.names)
        lists = f"options=({options}) valued='{_names(_valued(each))}' children=({described(each.children)})"
        rows.append((_key(each), lists))
    tables = _table("_proxyctl_table", "options=() valued= children=()", rows)
    return f"{_ZSH}\n{tables}\n{_values(commands)}{_ZSH_END}"


def fish(commands: list[Command]) -> str:
    """The script for fish."""
    lines = [_fish_lists("children", commands, lambda each: [name for name, _ in each.children])]
    lines.append(
        _fish_lists("valued", commands, lambda each: [name for option in _valued(each) for name in option.names])
    )
    lines.append(_FISH)
    for each in commands:
        lines += _fish_lines(each)
    return "\n".join(lines) + "\n"


def _fish_lines(command: Command) -> Iterator[str]:
    here = f"__proxyctl_at '{_key(command)}'"
    for name, summary in command.children:
        yield f"complete -c proxyctl -n {_double(here)} -a {name} -d {_fish_single(summary)}"
    for option in command.options:
        yield f"complete -c proxyctl -n {_double(here)} {_fish_option(option)}"
    for index, value in enumerate(command.positionals):
        comparison = "-ge" if index == len(command.positionals) - 1 else "-eq"
        if given := _fish_value(value):
            yield f"complete -c proxyctl -n {_double(f'{here} {index} {comparison}')} {given}"


def _valued(command: Command) -> list[Option]:
    return [option for option in command.options if option.value is not None]


def _names(options: Iterable[Option]) -> str:
    return " ".join(name for option in options for name in option.names)


def _key(command: Command) -> str:
    return " ".join(command.path)


def _table(name: str, cleared: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"{name}() {{", f"  {cleared}", '  case "$1" in']
    lines += [f"    '{key}') {assignments} ;;" for key, assignments in rows]
    return "\n".join([*lines, "  esac", "}", ""])


def _values(commands: list[Command]) -> str:
    """A function of bash and zsh: the choices of an option, or of a positional by its number, as `value`."""
    rows = []
    for each in commands:
        for option in _valued(each):
            assert option.value is not None
            if word := _word(option.value):
                rows += [(f"{_key(each)}:{name}", f"value='{word}'") for name in option.names]
        for index, value in enumerate(each.positionals):
            if word := _word(value):
                rows.append((f"{_key(each)}:{index}", f"value='{word}'"))
    lines = ["_proxyctl_value() {", "  value=", '  case "$1:$2" in']
    lines += [f"    '{key}') {assignment} ;;" for key, assignment in rows]
    return "\n".join([*lines, "  esac", "}", ""])


def _word(value: Value) -> str:
    return "FILES" if value.is_file else " ".join(value.choices)


def _single(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"


def _fish_single(text: str) -> str:
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"


def _double(text: str) -> str:
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("$", r"\$") + '"'


def _fish_lists(name: str, commands: list[Command], listed: Callable[[Command], list[str]]) -> str:
    lines = [f"function __proxyctl_{name}", "    switch $argv[1]"]
    for each in commands:
        if found := listed(each):
            lines += [f"        case '{_key(each)}'", f"            printf '%s\\n' {' '.join(found)}"]
    return "\n".join([*lines, "    end", "end", ""])


def _fish_option(option: Option) -> str:
    words = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.value is not None:
        words.append("-r" if option.value.is_file else "-x")
        words.append(_fish_value(option.value))
    return " ".join(word for word in [*words, f"-d {_fish_single(option.help)}"] if word)


def _fish_value(value: Value) -> str:
    return "-F" if value.is_file else f"-a {_single(' '.join(value.choices))}" if value.choices else ""
