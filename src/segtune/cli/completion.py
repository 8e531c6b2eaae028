"""Shell completion: the words that can stand next. The shell calls `segtune __complete WORD …` for them."""

import os
from collections.abc import Callable, Iterable, Sequence

from segtune.cli.declaration import Verb
from segtune.cli.parsing import COMMON
from segtune.errors import SegtuneError

_BASH = """
_segtune() {
  local cur words reply
  _get_comp_words_by_ref -n := cur words 2>/dev/null || { cur="${COMP_WORDS[COMP_CWORD]}"; words=("${COMP_WORDS[@]}"); }
  mapfile -t reply < <(segtune __complete "${words[@]:1:${#words[@]}-2}" "$cur" 2>/dev/null)
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
    """What can stand in place of the last word, which may be begun.

    Errors are no candidates: a shell shows none.
    """
    *before, current = words or [""]
    if not before:
        return _fitting(current, [*verbs, "--help", "--version"])
    verb = verbs.get(before[0])
    if verb is None:
        return []
    try:
        return _fitting(current, _next(verb, current))
    except (SegtuneError, OSError):
        return []


def _fitting(current: str, words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(current)})


def _next(verb: Verb, current: str) -> list[str]:
    if current.startswith("-"):
        return [f"--{o.name}" for o in (*COMMON, *verb.options)]
    key, equals, _ = current.partition("=")
    if equals:
        return [f"{key}={value}" for value in _values(verb, key)]
    keys = [f"{o.name}=" for o in verb.options if o.kind != "flag"]
    names = [name for kind in verb.completes for name in _names(kind)]
    return [*names, *keys, *_config_keys(verb)]


def _values(verb: Verb, key: str) -> list[str]:
    """What can stand behind a key."""
    option = verb.option(key)
    if option is not None:
        return [
            *option.choices,
            *(["true", "false"] if option.kind == "boolean" else _names(option.completes)),
        ]
    from segtune.config.conf_files import members
    from segtune.config.keys import GROUPS

    if key in GROUPS or key in ("gate", "workflow"):
        return members(key)
    from segtune.config.reference import settings
    from segtune.config.schema import RunConfig

    found = next((s for s in settings(RunConfig) if s.key == key), None)
    if found is None:
        return []
    words = found.allowed.replace(" or ", ", ").split(", ") if "choice" in found.type else []
    return [*words, *(["true", "false"] if "true" in found.type else [])]


def _config_keys(verb: Verb) -> list[str]:
    if not verb.passes:
        return []
    from segtune.config.keys import GROUPS
    from segtune.config.reference import settings
    from segtune.config.schema import GateConfig, RunConfig

    found = [f"{s.key}=" for s in settings(GateConfig, "gate.")] if "gate" in verb.passes else []
    if "*" in verb.passes:
        found += [f"{group}=" for group in GROUPS] + [f"{s.key}=" for s in settings(RunConfig)]
        found += [f"hp.{name}=" for name in _hyperparameters()]
    if "sweep" in verb.passes:
        from segtune.sweeping.spec import SweepSpec

        found += [f"{s.key}=" for s in settings(SweepSpec, "sweep.")]
    return [word for word in found if verb.takes(word.rstrip("="))]


def _hyperparameters() -> set[str]:
    from segtune.api.experiments import templates

    return {name for template in templates() for name in template.hyperparameters}


def _sweeps() -> list[str]:
    from segtune.sweeping.spec import sweep_names

    return sweep_names()


def _studies() -> list[str]:
    folder = os.path.join("mlruns", "sweeps")
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
    """Names of registered models, from the default store's database alone: MLflow would take seconds."""
    import sqlite3
    from contextlib import closing

    path = os.path.join("mlruns", "mlflow.db")
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
