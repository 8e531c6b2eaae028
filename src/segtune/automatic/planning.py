"""Look at the data and at the machine, decide, and write the sweep file."""

from collections.abc import Sequence
from pathlib import Path

from segtune.automatic.decisions import base_side, decide, given_keys
from segtune.automatic.facts import facts_of
from segtune.automatic.portfolio import (
    described,
    items,
    larger_side,
    left_out,
    measured,
    share_time,
    templates,
    trial_threads,
)
from segtune.automatic.repair import usable
from segtune.automatic.state import AutoState
from segtune.automatic.sweep_file import sweep_content, write_sweep_file
from segtune.config.commands import absolute_words
from segtune.config.compose import compose
from segtune.config.schema import RunConfig
from segtune.runtime.log import Log
from segtune.runtime.processors import available_processors

_RECIPE = "hp=fast"  # warm-up and averaged weights for short trainings
_SEARCHED = ("template", "hp.image_size")


def plan_sweep(
    words: Sequence[str], minutes: float, state: AutoState, sweep_file: Path, say: Log
) -> None:
    """Decide how to train in the given minutes, say why, and write it as a sweep file.

    Args:
        words: overrides of the user; nothing is decided about the keys that they set.

    Raises:
        ConfigError: the minutes are too few, or no template can start here.
        DataError: the dataset cannot be used.
    """
    given = given_keys(words)
    dataset = usable(words, sweep_file.parent, say)
    facts = facts_of(dataset.audit)
    composed = compose(words)
    sizes = [[base_side(facts)], larger_side(facts)]
    if "hp.image_size" in given:
        sizes = [list(composed.config.hp["image_size"])]
    decisions = [*dataset.decisions, *decide(facts, given, min(sizes[0]))]
    trial_words = [*dataset.words, *([] if "hp" in given else [_RECIPE])]
    for decision in decisions:
        trial_words += [text for text in decision.words if text not in trial_words]
    shared = (*_SEARCHED, "trainer.threads")
    trial_words = [text for text in trial_words if text.partition("=")[0] not in shared]
    names = [composed.template.name] if "template" in given else templates()
    processors = _processors(composed.config)
    say("timing a few steps of each starting configuration")
    candidates = measured(trial_words, items(names, sizes), trial_threads(processors), say)
    kept, plan = share_time(candidates, minutes, state.spent, processors)
    decisions += left_out(candidates, kept) + described(kept, plan, minutes)
    for decision in decisions:
        say(decision.line)
    if "trainer.threads" in given:
        trial_words.append(f"trainer.threads={plan.threads}")
    content = sweep_content(sweep_file.stem, absolute_words(trial_words), kept, plan)
    state.reserved = plan.reserved
    write_sweep_file(sweep_file, content, decisions, minutes)
    say(f"sweep file: {sweep_file}")


def _processors(config: RunConfig) -> int:
    """CPU threads that the trials may share; 1 where they share a GPU."""
    import torch

    if config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        return 1
    return config.trainer.threads or available_processors()
