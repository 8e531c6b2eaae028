"""Optuna's samplers and pruners, by their names in a sweep file."""

import warnings
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from segtune.errors import ConfigError
from segtune.plugins.registry import built, find
from segtune.sweeping.engine.prior import Prior, PriorSampler
from segtune.sweeping.engine.settings import StudySettings


def build_sampler(spec: StudySettings, asked: int, prior: Prior | None = None) -> BaseSampler:
    """Return the sweep's sampler.

    Args:
        asked: number of trials in the study; a part of the seed, so that a resumed sweep does not
            propose its first configurations again.
        prior: a share of the trials is drawn around it.

    Raises:
        ConfigError: no such sampler, or an option that it does not take.
    """
    seed = (spec.seed * 1_000_003 + asked * 7919) % 2**32
    part = find("sampler", spec.sampler, spec.key("sampler"))
    options = {**_defaults(spec, seed), **spec.sampler_options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            sampler = part.load()(**options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{spec.key('sampler')}={spec.sampler}: {_reason(error)}") from None
    if not isinstance(sampler, BaseSampler):
        raise ConfigError(f"sampler '{spec.sampler}' returns a {type(sampler).__name__}.")
    return sampler if prior is None else PriorSampler(sampler, prior, seed)


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
    """Return the sweep's pruner.

    Raises:
        ConfigError: no such pruner, or an option that it does not take.
    """
    part = find("pruner", spec.pruner, spec.key("pruner"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            pruner = built(part, context=spec, **spec.pruner_options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{spec.key('pruner')}={spec.pruner}: {_reason(error)}") from None
    if not isinstance(pruner, BasePruner):
        raise ConfigError(f"pruner '{spec.pruner}' returns a {type(pruner).__name__}.")
    return pruner


def _reason(error: Exception) -> str:
    text = str(error)
    return text.rpartition("() ")[2] or text


def median(context: StudySettings) -> BasePruner:
    """Stop a trial that is below the median of the others at the same step."""
    return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=context.pruner_warmup)


def halving(context: StudySettings) -> BasePruner:
    """Keep the best third at 1, 3, 9 … times `pruner_warmup` steps."""
    warmup = context.pruner_warmup
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=warmup, reduction_factor=3)


def hyperband(context: StudySettings) -> BasePruner:
    """Run several halvings side by side."""
    return optuna.pruners.HyperbandPruner(min_resource=context.pruner_warmup, reduction_factor=3)


def patient(context: StudySettings) -> BasePruner:
    """Apply the median only after the trial stopped improving."""
    return optuna.pruners.PatientPruner(median(context), patience=context.pruner_warmup)
