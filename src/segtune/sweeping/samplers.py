"""What proposes the next configuration and what ends a trial early: Optuna's, by name."""

import warnings
from collections.abc import Callable

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from segtune.sweeping.spec import SweepSpec


def build_sampler(spec: SweepSpec, asked: int) -> BaseSampler:
    """The sweep's sampler.

    Args:
        asked: trials in the study so far; part of the seed, so that a resumed sweep does not propose again what it
            proposed first.
    """
    seed = (spec.seed * 1_000_003 + asked * 7919) % 2**32
    startup = max(4, min(10, (spec.n_trials or 30) // 3))
    build: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True
        ),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=startup,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        ),
        # one sequence for the whole study: its points are told apart by their number in it, not by the seed
        "qmc": lambda: optuna.samplers.QMCSampler(
            seed=spec.seed,
            scramble=True,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.RandomSampler(
            seed=seed
        ),  # the space itself counts through its grid
    }
    with warnings.catch_warnings():  # some are called experimental since years
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return build[spec.sampler]()


def build_pruner(spec: SweepSpec) -> BasePruner:
    """The sweep's pruner."""
    warmup = spec.pruner_warmup
    build: dict[str, Callable[[], BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warmup),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(
            min_resource=warmup, reduction_factor=3
        ),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=warmup, reduction_factor=3
        ),
        "patient": lambda: optuna.pruners.PatientPruner(
            optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warmup), patience=warmup
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return build[spec.pruner]()
