"""Hints for the verbs, flags and bare words of other tools."""

import os
import re
from collections.abc import Sequence

from segtune.cli.declaration import Verb
from segtune.config.aliases import KEYS, alias_hint, by_alias
from segtune.errors import SegtuneError, nearest

_VERBS = {
    "train": "fit run finetune fine-tune training trainer learn start resume plan_and_preprocess",
    "sweep": "tune search hpo optimize optimise study multirun grid hyperopt optuna",
    "evaluate": "val test eval validate score benchmark metrics measure",
    "predict": "infer inference detect segment label run_inference demo apply",
    "compare": "report leaderboard summary results analyze analyse plot",
    "confirm": "reproduce retrain replicate",
    "auto": "automl autotrain autopilot quickstart magic",
    "merge": "soup ensemble swa average blend",
    "promote": "register deploy publish champion",
    "rollback": "revert undo demote",
    "export": "convert onnx openvino trace compile",
    "import": "ingest add prepare load-data preprocess convert-dataset",
    "check": "lint verify inspect audit validate-data dataset stats",
    "templates": "models architectures zoo template",
    "config": "configs cfg settings options params hparams defaults info",
    "status": "progress watch monitor",
    "stop": "kill cancel abort pause",
    "worker": "agent join",
}
VERB_ALIASES = by_alias(_VERBS)
"""Verb of another tool -> the verb here."""

_MEMBER = "choose members of groups, such as hp=quick or loss=dice; segtune config lists them"
_FLAG_HINTS = {
    "a run takes one value of each key; write sweeps/NAME.yaml and run segtune sweep NAME": (
        "-m --multirun"
    ),
    "put your own config files into conf/ of the working folder, or name their folder with "
    "SEGTUNE_CONF=DIR": "-cd --config-dir -cp --config-path",
    _MEMBER: "-cn --config-name --config -c",
    "segtune train --print-config shows the composed config": (
        "--cfg --info --resolve -p --package"
    ),
    "leave it out; segtune VERB --help shows the options of a verb": (
        "--run -r --experimental-rerun --hydra-help"
    ),
    "leave it out; progress goes to standard error": "-v --verbose -q --quiet",
}
_FLAGS = by_alias(_FLAG_HINTS)
"""Flag of another tool -> hint."""

_KEY = re.compile(r"[\w.]+")
_NO_PAIR = "it is not key=value"


def verb_hint(word: str, verbs: Sequence[str]) -> str:
    """Return the verb that a word means.

    >>> verb_hint("fit", ["train"]), verb_hint("trian", ["train"])
    ('here it is: segtune train', "did you mean 'train'?")
    """
    verb = VERB_ALIASES.get(word.lower())
    if verb in verbs:
        return f"here it is: segtune {verb}"
    if word.startswith("-"):
        flag = _FLAGS.get(word.partition("=")[0])
        return flag or "a verb comes first, as: segtune train; segtune --help lists them"
    if "=" in word:
        return f"a verb comes first, as: segtune train {word}"
    return nearest(word, verbs)


def flag_hint(word: str, verb: Verb, known: Sequence[str]) -> str:
    """Return what to write in place of an unknown flag."""
    flag, _, value = word.partition("=")
    if flag in _FLAGS:
        return _FLAGS[flag]
    key = flag.lstrip("-").replace("-", "_")
    if "*" in verb.passes and _KEY.fullmatch(key) and len(key) > 1:
        if key in KEYS:
            return f"keys are written without dashes, as KEY=VALUE; {alias_hint(key)}"
        from segtune.config.keys import GROUPS

        if "." in key or key in GROUPS:
            return f"write {key}={value or 'VALUE'}"
    return nearest(flag, known)


def bare_word_hint(verb_name: str, word: str, verb: Verb) -> str:
    """Return what to write in place of a name that a verb does not take."""
    if verb.option("model") is not None:
        return f"write model={word}"
    if "*" not in verb.passes:
        return _NO_PAIR
    try:
        return _config_hint(verb_name, word)
    except SegtuneError:  # a conf folder that cannot be read: composition reports it
        return _NO_PAIR


def _config_hint(verb_name: str, word: str) -> str:
    from segtune.config.conf_files import members
    from segtune.config.keys import GROUPS
    from segtune.sweeping.spec import sweep_names

    groups = [f"{group}={word}" for group in GROUPS if word in members(group)]
    if groups:
        return f"write {' or '.join(groups)}"
    if verb_name == "train" and (word in sweep_names() or word.startswith("sweeps/")):
        return f"a sweep is started with: segtune sweep {word}"
    if word.endswith((".yaml", ".yml")):
        return _MEMBER
    if os.path.isdir(word) or "/" in word or "\\" in word:
        return f"a dataset of your own is given as: dataset=folder dataset.root={word}"
    similar = []
    for group in GROUPS:
        for name in members(group):
            if nearest(word, [name]).startswith("did you mean"):
                similar.append(f"{group}={name}")
    hint = f"; did you mean {' or '.join(similar[:3])}?" if similar else ""
    return f"{_NO_PAIR}, e.g. dataset=street{hint}"
