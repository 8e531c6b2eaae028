"""The objective of a sweep: a logged metric with its direction; several make a front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from segtune.errors import ConfigError, nearest
from segtune.plugins.registry import parts
from segtune.sweeping.engine.records import SPEC
from segtune.sweeping.engine.settings import Direction

DEFAULT = "val/miou"
CURVE = "curve"
"""User attribute of a trial with several objectives: epoch -> value of the first objective."""

_COSTS = ("params_m", "gflops", "latency_ms", "latency_p95_ms", "memory_mb", "size_mb")


@dataclass(frozen=True)
class Objective:
    """A metric that a sweep improves.

    Attributes:
        name: as it is logged: `val/miou`, `val/iou/person`, `cost/latency_ms`.
        each_epoch: it is known after each validation, so that trials can be pruned by it.
    """

    name: str
    direction: Direction
    each_epoch: bool

    @property
    def run_metric(self) -> str:
        """The metric of a finished run."""
        return self.name if self.name.startswith("cost/") else f"best/{self.name}"

    @property
    def tag(self) -> str:
        """The text of the runs' tag `segtune.objective`."""
        return f"{self.direction} {self.run_metric}"

    def value(self, metrics: Mapping[str, float], cost: Mapping[str, float]) -> float:
        """Return the value of a finished run.

        Raises:
            ConfigError: the run has no such figure, as the IoU of a class that does not occur.
        """
        figures = {**metrics, **{f"cost/{name}": value for name, value in cost.items()}}
        if self.name not in figures:
            raise ConfigError(
                f"sweep.objective={self.name}: this run has no such figure; "
                f"{nearest(self.name, figures)}"
            )
        return figures[self.name]


def parse_objectives(written: str | Sequence[str]) -> tuple[Objective, ...]:
    """Return the objectives of a sweep file; `-NAME` is minimized.

    A metric whose direction is minimize, and every cost, is minimized without the sign as well.

    Raises:
        ConfigError: no such metric, or a name twice.
    """
    texts = [written] if isinstance(written, str) else list(written)
    result = tuple(_parse(text) for text in texts)
    names = [objective.name for objective in result]
    if not result or len(set(names)) < len(names):
        raise ConfigError(f"sweep.objective={written}: give one metric, or several different ones.")
    return result


def _parse(text: str) -> Objective:
    name = text.removeprefix("-")
    section, _, metric = name.partition("/")
    metrics = parts("metric")
    if section == "cost" and metric in _COSTS:
        return Objective(name, "minimize", False)
    if section == "val" and metric.partition("/")[0] in metrics:
        facts = metrics[metric.partition("/")[0]].facts
        is_less = text.startswith("-") or facts.get("direction") == "minimize"
        return Objective(name, "minimize" if is_less else "maximize", bool(facts.get("each_epoch")))
    known = [*(f"val/{name}" for name in metrics), *(f"cost/{name}" for name in _COSTS)]
    raise ConfigError(
        f"sweep.objective={text}: no such metric; {nearest(name, known)} Give val/METRIC, "
        "val/iou/CLASS or cost/FIGURE; a - before it minimizes it."
    )


def of_study(study: optuna.Study) -> tuple[Objective, ...]:
    """Return the objectives that a study recorded; reading them needs no metric's plugin."""
    recorded = study.user_attrs.get(SPEC, {}).get("objective", DEFAULT)
    names = [recorded] if isinstance(recorded, str) else recorded
    metrics = parts("metric")
    objectives = []
    for text, direction in zip(names, study.directions, strict=True):
        name = text.removeprefix("-")
        metric = metrics.get(name.split("/")[1])
        each_epoch = metric is not None and bool(metric.facts.get("each_epoch"))
        wish: Direction = "minimize" if direction == StudyDirection.MINIMIZE else "maximize"
        objectives.append(Objective(name, wish, each_epoch))
    return tuple(objectives)


def label(objective: str) -> str:
    """Return the name of an objective for people."""
    return "val mIoU" if objective == DEFAULT else objective


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """Return epoch -> value of the first objective, of a trial that was validated so far."""
    recorded = trial.user_attrs.get(CURVE, {})
    return trial.intermediate_values or {int(epoch): v for epoch, v in recorded.items()}


def first_value(trial: FrozenTrial) -> float | None:
    """Return the value of the first objective of a finished trial."""
    return trial.values[0] if trial.values else None


def should_prune(study: optuna.Study, trial: optuna.Trial, curve: Mapping[int, float]) -> bool:
    """Return whether the study's pruner ends a trial by its first objective.

    Optuna does not prune a study of several objectives: the pruner sees a copy of the study that
    has the first objective alone.

    Args:
        curve: epoch -> value of the first objective, of this trial.
    """
    copy = optuna.create_study(direction=study.directions[0], pruner=study.pruner)
    for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        values = curve_of(other)
        if other.values and values:
            copy.add_trial(create_trial(value=other.values[0], intermediate_values=values))
    running = create_trial(state=TrialState.RUNNING, intermediate_values=dict(curve))
    running.number = trial.number
    return bool(study.pruner.prune(copy, running))
