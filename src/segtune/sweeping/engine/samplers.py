"""Optuna's samplers and pruners, by their names in a sweep file."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from segtune.errors import ConfigError
from segtune.sweeping.engine.settings import StudySettings

SAMPLERS: Mapping[str, Callable[..., BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.RandomSampler,  # the space enumerates the grid; see SweepStudy.claim
}
PRUNERS = ("none", "median", "halving", "hyperband", "patient")


def build_sampler(spec: StudySettings, asked: int) -> BaseSampler:
    """Return the sweep's sampler.

    Args:
        asked: number of trials in the study; a part of the seed, so that a resumed sweep does not
            propose its first configurations again.

    Raises:
        ConfigError: the sampler does not take one of the options.
    """
    seed = (spec.seed * 1_000_003 + asked * 7919) % 2**32
    options = {**_defaults(spec, seed), **spec.sampler_options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return SAMPLERS[spec.sampler](**options)
        except (TypeError, ValueError) as error:
            reason = str(error).rpartition("__init__() ")[2]
            raise ConfigError(f"{spec.key('sampler')}={spec.sampler}: {reason}") from None


def _defaults(spec: StudySettings, seed: int) -> dict[str, Any]:
    """Return the arguments of the sampler that its users need not give."""
    options: dict[str, Any] = {"seed": seed}
    if spec.sampler in ("tpe", "gp", "cmaes"):
        options["n_startup_trials"] = max(4, min(10, (spec.n_trials or 30) // 3))
    if spec.sampler == "tpe":
        options |= {"multivariate": True, "group": True, "constant_liar": True}
    if spec.sampler == "qmc":
        # one sequence for the whole study: a trial's number selects the point, not the seed
        options |= {"seed": spec.seed, "scramble": True}
    if spec.sampler in ("cmaes", "qmc"):
        options["independent_sampler"] = optuna.samplers.RandomSampler(seed=seed)
        options["warn_independent_sampling"] = False
    return options


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
