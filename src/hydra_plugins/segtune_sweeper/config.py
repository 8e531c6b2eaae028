"""The settings of `hydra/sweeper=segtune` and of its samplers."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

_GROUP = "hydra/sweeper"
_PROVIDER = "segtune"
_SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {
        "_target_": "optuna.samplers.TPESampler",
        "n_startup_trials": None,
        "n_ei_candidates": None,
        "multivariate": None,
    },
    "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": None},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "sigma0": None, "popsize": None},
    "qmc": {"_target_": "optuna.samplers.QMCSampler"},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": None},
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "grid": {"_target_": "optuna.samplers.GridSampler"},
}
"""Name -> options; None stands for segtune's default. The names of hydra-optuna-sweeper."""


@dataclass
class SegtuneSweeperConf:
    """The settings of the sweeper.

    Attributes:
        sampler: a member of the group `hydra/sweeper/sampler`, with its options.
        direction: `minimize` or `maximize`, or a list with one for each returned value.
        storage: `postgresql://…` for workers on several machines; by default a file in `folder`.
        study_name: by default the job's name and a hash of the searched keys and the overrides.
        folder: of the study and the checkpoints; by default `multirun/studies/STUDY_NAME`.
        n_trials: the total of the study, over all its starts.
        n_jobs: processes that pull trials; 0 runs the trials in this process.
        pruner: `median`, `patient`, `halving`, `hyperband` or `none`.
        pruner_warmup: reports before a trial may be pruned.
        max_failure_rate: share of the trials that may fail, in [0, 1]; None for any.
        max_retries: how many times in a row a trial may lose its worker at the same step.
        lease: seconds without a sign of life after which another worker takes a trial over.
        allow_drift: continue although the space or the application's config changed.
        retry_failed: enqueue the failed trials again.
        params: the space: key -> `interval(0, 1)`, `range(1, 9)`, `choice(a, b)`, with
            `tag(log, …)` and `int(…)` around it; other values are fixed.
    """

    _target_: str = "hydra_plugins.segtune_sweeper.sweeper.SegtuneSweeper"
    _recursive_: bool = False
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])

    sampler: Any = MISSING
    direction: Any = "minimize"
    storage: str | None = None
    study_name: str | None = None
    folder: str | None = None
    n_trials: int = 20
    n_jobs: int = 2
    pruner: str = "median"
    pruner_warmup: int = 3
    max_failure_rate: float | None = None
    max_retries: int = 3
    lease: float = 60.0
    allow_drift: bool = False
    retry_failed: bool = False
    params: dict[str, Any] | None = None


_store = ConfigStore.instance()
_store.store(group=_GROUP, name="segtune", node=SegtuneSweeperConf, provider=_PROVIDER)
for _name, _node in _SAMPLERS.items():
    _store.store(
        group=f"{_GROUP}/sampler", name=_name, node={"seed": None, **_node}, provider=_PROVIDER
    )
