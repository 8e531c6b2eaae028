"""The starting configurations, what they cost on this machine, and how the minutes are shared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segtune.automatic.decisions import Decision, base_side
from segtune.automatic.facts import DataFacts
from segtune.config.commands import word
from segtune.config.conf_files import load_template, members
from segtune.errors import ConfigError
from segtune.runtime.log import Log
from segtune.sweeping.space_building import compose_trial
from segtune.training.components import check_start
from segtune.training.time_budget import run_timing

_TEMPLATES = ("lite", "swift")  # made for CPUs; the first has pretrained weights
_PATIENCE = 0.4  # seconds of steps of each kind, for each configuration
_DETAIL = 1.5  # factor of a larger image, for details
_WORTH_MORE = 1.2  # least factor of one

_SEARCH_SHARE = 0.4  # of the time for training; the final run has the rest
_RESERVED_SHARE = 0.06  # of all time, for evaluation, promotion and report
_LEAST_RESERVED, _MOST_RESERVED = 4.0, 120.0  # seconds
_STARTING_SECONDS = 10.0  # until the sweep's workers have loaded their libraries
_TRIALS = 6  # configurations that the search should see, if there is time
_TELLING_UPDATES = 40  # of the weights; after fewer, all scores are near chance
_SHORT_TRIAL = 60.0  # seconds; shorter trials only where the portfolio itself needs them
_USABLE_SHARE = 0.85  # of a trial's minutes, as in `training.time_budget`
_MOST_TRIALS = 40
_WORTH_SEARCHING = 4  # trials; fewer of a single configuration are not worth its time
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Candidate:
    """A starting configuration.

    Attributes:
        item: searched key -> value.
        step_seconds: of one update with the largest crops, with one trial's threads.
        least_seconds: of a run of one epoch, with its measurement.
        telling_seconds: of a run after which configurations can be told apart.
    """

    item: dict[str, Any]
    step_seconds: float
    least_seconds: float
    telling_seconds: float

    @property
    def name(self) -> str:
        """The values in words."""
        return ", ".join(str(value) for value in self.item.values())


@dataclass(frozen=True)
class TimePlan:
    """How the minutes are shared.

    Attributes:
        trials: number of trials of the search.
        workers: trials at a time, with `threads` CPU threads each.
        trial_minutes: of each trial.
        reserved: seconds for evaluation, promotion and report.
    """

    trials: int
    workers: int
    threads: int
    trial_minutes: float
    reserved: float


def templates() -> list[str]:
    """The templates to start from: those that suit CPUs, and learn fast on GPUs too."""
    return [name for name in _TEMPLATES if name in members("template")]


def trial_threads(processors: int) -> int:
    """CPU threads of a trial where as many run at a time as may."""
    return max(1, processors // min(processors, _MOST_WORKERS))


def larger_side(facts: DataFacts) -> list[int]:
    """A larger image size for details, as `hp.image_size`; empty where the images have no more."""
    side = base_side(facts)
    larger = min(min(facts.size), int(side * _DETAIL))
    return [larger] if larger >= _WORTH_MORE * side else []


def items(names: Sequence[str], sizes: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """The configurations to start from, the most promising first.

    Args:
        names: templates.
        sizes: of images, as `hp.image_size`; empty ones count not.

    >>> items(["swift"], [[360], []])
    [{'template': 'swift', 'hp.image_size': [360]}]
    """
    result: list[dict[str, Any]] = []
    for size in filter(None, sizes):
        result += [{"template": name, "hp.image_size": list(size)} for name in names]
    return result


def measured(
    words: Sequence[str], wanted: Sequence[dict[str, Any]], threads: int, say: Log
) -> list[Candidate]:
    """Time a few steps of each configuration, and leave out those that cannot start here.

    Raises:
        ConfigError: none can start; the reason is that of the first.
    """
    candidates, faults = [], []
    for item in wanted:
        trial_words = [*words, *(word(key, value) for key, value in item.items())]
        try:
            config = compose_trial(trial_words, threads)
            check_start(config)
            timing = run_timing(config, _PATIENCE)
        except ConfigError as error:
            faults.append(error)
            say(f"left out: {item['template']} ({error})")
            continue
        least, telling = (
            timing.seconds(epochs, lambda _: 1.0, 1)
            for epochs in (1, math.ceil(_TELLING_UPDATES / timing.steps))
        )
        candidates.append(Candidate(item, timing.largest, least, telling))
    if not candidates:
        raise faults[0]
    return candidates


def share_time(
    candidates: Sequence[Candidate], minutes: float, spent: float, processors: int
) -> tuple[list[Candidate], TimePlan]:
    """Divide the minutes; return the configurations that can be tried in them, and the plan.

    Args:
        spent: seconds of the minutes that are gone.
        processors: CPU threads that may be used; on a GPU, 1.

    Raises:
        ConfigError: not even the fastest configuration can be trained for one epoch.
    """
    reserved = min(_MOST_RESERVED, max(_LEAST_RESERVED, 60.0 * minutes * _RESERVED_SHARE))
    fixed = spent + reserved + _STARTING_SECONDS
    left = 60.0 * minutes - fixed
    fastest = min(candidates, key=lambda candidate: candidate.least_seconds)
    least = fastest.least_seconds / _USABLE_SHARE
    if left < least:
        raise ConfigError(
            f"minutes={minutes:g} are too few for one epoch: reading the data and starting take "
            f"{fixed:.0f} s, and one epoch of {fastest.name} with its measurement takes "
            f"{least:.0f} s on this machine. minutes={_rounded_up((fixed + least) / 60):g} would "
            "do; so would a smaller hp.image_size=[N]."
        )
    workers = max(1, min(processors, _MOST_WORKERS))
    total = _SEARCH_SHARE * left * workers
    kept = list(candidates)
    seconds = _trial_seconds(total, workers, len(kept))
    while len(kept) > 1:
        too_slow = [c for c in kept if c.telling_seconds > seconds * _USABLE_SHARE]
        if 0 < len(too_slow) < len(kept):
            kept.remove(max(too_slow, key=lambda candidate: candidate.telling_seconds))
        elif too_slow or len(kept) * seconds > total + 1.0:
            kept.pop()
        else:
            break
        seconds = _trial_seconds(total, workers, len(kept))
    trials = min(_MOST_TRIALS, int(total / seconds + 0.01))
    tells_nothing = kept[0].telling_seconds > seconds * _USABLE_SHARE
    if len(kept) == 1 and (tells_nothing or trials < _WORTH_SEARCHING):
        kept = kept if kept[0].least_seconds <= left * _USABLE_SHARE else [fastest]
        return kept, TimePlan(1, 1, processors, left / 60.0, reserved)
    workers = min(workers, trials)
    return kept, TimePlan(trials, workers, processors // workers, seconds / 60.0, reserved)


def _trial_seconds(total: float, workers: int, count: int) -> float:
    """Seconds of a trial: a sixth of the total of all workers, or a minute, or what `count` allow.

    >>> _trial_seconds(1800, 2, 2), _trial_seconds(240, 2, 2), _trial_seconds(40, 2, 2)
    (300.0, 60.0, 20.0)
    """
    return min(total / workers, max(total / _TRIALS, min(_SHORT_TRIAL, total / count)))


def _rounded_up(minutes: float) -> float:
    """Minutes that are surely enough, in steps of a tenth."""
    return (int(minutes * 1.2 * 10) + 1) / 10


def left_out(candidates: Sequence[Candidate], kept: Sequence[Candidate]) -> list[Decision]:
    """The configurations for which there is no time, as decisions."""
    decisions = []
    for candidate in candidates:
        if candidate not in kept:
            reason = f"{candidate.telling_seconds:.0f} s show how good it is"
            choice = f"{candidate.name}, as the time allows {len(kept)} of {len(candidates)}"
            decisions.append(Decision("left out", choice, reason))
    return decisions


def described(candidates: Sequence[Candidate], plan: TimePlan, minutes: float) -> list[Decision]:
    """The portfolio and the division of the minutes as decisions."""
    costs = ", ".join(f"{c.name}: {1e3 * c.step_seconds:.0f} ms a step" for c in candidates)
    names = " | ".join(c.name for c in candidates)
    if plan.trials == 1:
        return [
            Decision("portfolio", names, f"{costs}; the time allows no second one"),
            Decision("time", f"{plan.trial_minutes:.2g} minutes for one run", f"of {minutes:g}"),
        ]
    choice = (
        f"{plan.trials} trials of {plan.trial_minutes:.2g} minutes, {plan.workers} at a time with "
        f"{plan.threads} threads; the rest for the best with a fresh seed"
    )
    reason = f"of {minutes:g} minutes, {plan.reserved:.0f} s are kept for evaluation and report"
    return [Decision("portfolio", names, costs), Decision("time", choice, reason)]


def learning_rates(names: Sequence[str]) -> dict[str, float]:
    """Template -> its own learning rate per item."""
    rates = {}
    for name in names:
        rates[name] = float(load_template(name).hyperparameters["per_item_lrate"].default)
    return rates
