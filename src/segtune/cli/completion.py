"""Shell completion: the words that can stand next.

The scripts of the shells call `segtune __complete WORD …` for them.
"""

import os
from collections.abc import Callable, Iterable, Sequence

from segtune.cli.declaration import Verb
from segtune.cli.parsing import COMMON
from segtune.config.defaults import ROOT
from segtune.errors import SegtuneError

_BASH = """
_segtune() {
  local cur words reply
  _get_comp_words_by_ref -n := cur words 2>/dev/null || {
    cur="${COMP_WORDS[COMP_CWORD]}"
    words=("${COMP_WORDS[@]}")
  }
  words=("${words[@]:1:${#words[@]}-2}")
  mapfile -t reply < <(segtune __complete "${words[@]}" "$cur" 2>/dev/null)
  COMPREPLY=("${reply[@]}")
  declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
  if [[ "$cur" == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#*=}"); fi
  [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _segtune segtune
""".strip()
_ZSH = """
#compdef segtune
_segtune() {
  local -a reply
  reply=("${(@f)$(segtune __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n "$reply[1]" ]] && compadd -S '' -- "${reply[@]}" || _files
}
compdef _segtune segtune
""".strip()
_FISH = """
function __segtune_complete
  set -l words (commandline -opc) (commandline -ct)
  segtune __complete $words[2..-1] 2>/dev/null
end
complete -c segtune -a '(__segtune_complete)'
""".strip()
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def candidates(words: Sequence[str], verbs: dict[str, Verb]) -> list[str]:
    """Return the words that can stand in place of the last one, of which a part may be typed.

    An error gives no candidates: a shell has no place to show it.
    """
    *earlier, current = words or [""]
    if not earlier:
        return _beginning(current, [*verbs, "--help", "--version"])
    verb = verbs.get(earlier[0])
    if verb is None:
        return []
    try:
        return _beginning(current, _next_words(verb, current))
    except (SegtuneError, OSError):
        return []


def _beginning(start: str, words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(start)})


def _next_words(verb: Verb, current: str) -> list[str]:
    if current.startswith("-"):
        return [f"--{o.name}" for o in (*COMMON, *verb.options)]
    key, equals, _ = current.partition("=")
    if equals:
        return [f"{key}={value}" for value in _values(verb, key)]
    words = [f"{o.name}=" for o in verb.options if o.kind != "flag"]
    for kind in verb.completes:
        words += _names(kind)
    return [*words, *_config_keys(verb)]


def _values(verb: Verb, key: str) -> list[str]:
    """Return the values that a key can have."""
    option = verb.option(key)
    if option is not None and option.kind == "boolean":
        return ["true", "false"]
    if option is not None:
        return [*option.choices, *_names(option.completes)]
    from segtune.config.conf_files import members
    from segtune.config.keys import GROUPS
    from segtune.config.reference import settings
    from segtune.config.schema import RunConfig

    if key in GROUPS or key in ("gate", "workflow"):
        return members(key)
    setting = next((s for s in settings(RunConfig) if s.key == key), None)
    if setting is None:
        return []
    words = []
    if "choice" in setting.type:
        words += setting.allowed.replace(" or ", ", ").split(", ")
    if "true" in setting.type:
        words += ["true", "false"]
    if "null" in setting.type:
        words.append("null")
    return words


def _config_keys(verb: Verb) -> list[str]:
    """Return the config keys that a verb takes, each with its `=`."""
    if not verb.passes:
        return []
    from segtune.config.keys import GROUPS
    from segtune.config.reference import settings
    from segtune.config.schema import GateConfig, RunConfig

    keys: list[str] = []
    if "gate" in verb.passes:
        keys += [s.key for s in settings(GateConfig, "gate.")]
    if "*" in verb.passes:
        keys += [*GROUPS, *(s.key for s in settings(RunConfig)), *_hyperparameters()]
    if "sweep" in verb.passes:
        from segtune.sweeping.spec import SweepSpec

        keys += [s.key for s in settings(SweepSpec, "sweep.")]
    return [f"{key}=" for key in keys if verb.takes(key)]


def _hyperparameters() -> list[str]:
    from segtune.api.experiments import templates

    names: list[str] = []
    for template in templates():
        names += [f"hp.{name}" for name in template.hyperparameters]
    return names


def _sweeps() -> list[str]:
    from segtune.sweeping.spec import sweep_names

    return sweep_names()


def _studies() -> list[str]:
    folder = os.path.join(ROOT, "sweeps")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _config_names() -> list[str]:
    from segtune.config.keys import GROUPS
    from segtune.config.reference import settings
    from segtune.config.schema import RunConfig

    return [*GROUPS, "sweep", "gate", "workflow", *(s.key for s in settings(RunConfig))]


def _members(group: str) -> list[str]:
    from segtune.config.conf_files import members

    return members(group)


def _registered() -> list[str]:
    """Return the registered models of the default store, read from its database.

    MLflow would take seconds for it.
    """
    import sqlite3
    from contextlib import closing

    path = os.path.join(ROOT, "mlflow.db")
    if not os.path.isfile(path):
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return [str(row[0]) for row in database.execute("SELECT name FROM registered_models")]


def _uris() -> list[str]:
    return [f"models:/{name}@champion" for name in _registered()]


_SOURCES: dict[str, Callable[[], list[str]]] = {
    "sweep": _sweeps,
    "study": _studies,
    "template": lambda: _members("template"),
    "workflow": lambda: _members("workflow"),
    "shell": lambda: list(SCRIPTS),
    "key": _config_names,
    "registered": _registered,
    "model": _uris,
}


def _names(kind: str) -> list[str]:
    return _SOURCES[kind]() if kind in _SOURCES else []
