"""A sampler that draws some trials around a configuration that is known to be good."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

Confidence = Literal["low", "medium", "high"]
_SHARE: Mapping[Confidence, float] = {"low": 0.25, "medium": 0.5, "high": 0.75}
_SPREAD: Mapping[Confidence, float] = {"low": 0.3, "medium": 0.2, "high": 0.1}


@dataclass(frozen=True)
class Prior:
    """A configuration around which good ones are expected.

    Attributes:
        centre: parameter -> its value, as the study records it.
        confidence: a high one draws more trials around the centre, and closer to it.
    """

    centre: Mapping[str, Any]
    confidence: Confidence

    def renamed(self, names: Mapping[str, str]) -> "Prior":
        """Return the prior with other names of its parameters."""
        centre = {names.get(name, name): value for name, value in self.centre.items()}
        return replace(self, centre=centre)


class PriorSampler(BaseSampler):
    """Draws a share of the trials around the prior's centre, and leaves the others to a sampler.

    Args:
        sampler: proposes the other trials, and learns from all of them.
        seed: of the draws of one trial.
    """

    def __init__(self, sampler: BaseSampler, prior: Prior, seed: int) -> None:
        self._sampler, self._prior = sampler, prior
        self._random = random.Random(seed)
        self._is_drawn = self._random.random() < _SHARE[prior.confidence]

    def reseed_rng(self) -> None:
        """Reseed the sampler of the other trials."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are proposed together: none for a draw around the centre."""
        return {} if self._is_drawn else self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters that are proposed together."""
        return {} if self._is_drawn else self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return one parameter."""
        centre = self._prior.centre
        if self._is_drawn and param_name in centre:
            spread = _SPREAD[self._prior.confidence]
            return _around(centre[param_name], param_distribution, spread, self._random)
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tell the other sampler that a trial begins."""
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Tell the other sampler that a trial has ended."""
        self._sampler.after_trial(study, trial, state, values)


def _around(
    centre: Any, distribution: BaseDistribution, spread: float, generator: random.Random
) -> Any:
    """Draw a value around the centre.

    Args:
        spread: standard deviation of a number, as a share of its range; for a choice, twice the
            chance of a uniform draw.
    """
    if isinstance(distribution, CategoricalDistribution):
        is_uniform = generator.random() < 2 * spread
        return generator.choice(distribution.choices) if is_uniform else centre
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    low, high = scale(distribution.low), scale(distribution.high)
    for _ in range(100):
        value = generator.gauss(scale(centre), spread * (high - low))
        if low <= value <= high:
            return _on_steps(back(value), distribution)
    return centre


def _on_steps(value: float, distribution: FloatDistribution | IntDistribution) -> float | int:
    """Return the nearest value that the distribution holds."""
    low, high, step = distribution.low, distribution.high, distribution.step
    if step:
        value = low + round((value - low) / step) * step
    value = min(max(value, low), high)
    return int(value) if isinstance(distribution, IntDistribution) else value
