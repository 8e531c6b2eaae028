"""Optuna's samplers and pruners, by their names in a sweep file."""

import warnings
from collections.abc import Callable

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from segtune.sweeping.engine.settings import StudySettings


def build_sampler(spec: StudySettings, asked: int) -> BaseSampler:
    """Return the sweep's sampler.

    Args:
        asked: number of trials in the study; a part of the seed, so that a resumed sweep does not
            propose its first configurations again.
    """
    seed = (spec.seed * 1_000_003 + asked * 7919) % 2**32
    startup = max(4, min(10, (spec.n_trials or 30) // 3))
    random = optuna.samplers.RandomSampler(seed=seed)
    builders: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True
        ),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=startup,
            independent_sampler=random,
            warn_independent_sampling=False,
        ),
        # one sequence for the whole study: a trial's number selects the point, not the seed
        "qmc": lambda: optuna.samplers.QMCSampler(
            seed=spec.seed,
            scramble=True,
            independent_sampler=random,
            warn_independent_sampling=False,
        ),
        "random": lambda: random,
        "grid": lambda: random,  # the space enumerates the grid; see SweepStudy.claim
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return builders[spec.sampler]()


def build_pruner(spec: StudySettings) -> BasePruner:
    """Return the sweep's pruner."""
    warmup = spec.pruner_warmup
    median = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warmup)
    builders: dict[str, Callable[[], BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: median,
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(
            min_resource=warmup, reduction_factor=3
        ),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=warmup, reduction_factor=3
        ),
        "patient": lambda: optuna.pruners.PatientPruner(median, patience=warmup),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return builders[spec.pruner]()
