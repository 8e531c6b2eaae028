"""Sweeps: a search space, a shared study, workers that pull trials.

`run` searches for the best value of any function. Neither this module nor what it gives needs
torch, Lightning or MLflow.

    from segtune import sweeping

    def objective(trial: sweeping.Trial) -> float:
        return float(trial.params["x"]) ** 2

    settings = sweeping.SearchSettings(folder="sweeps/square", n_trials=20)
    print(sweeping.run(objective, {"x": {"min": -5.0, "max": 5.0}}, settings).best)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.exceptions import TrialPruned

    from segtune.sweeping.engine.running import Trial, current_trial
    from segtune.sweeping.engine.search import SearchResult, TrialResult, run
    from segtune.sweeping.engine.search_settings import SearchSettings

__all__ = [
    "SearchResult",
    "SearchSettings",
    "Trial",
    "TrialPruned",
    "TrialResult",
    "current_trial",
    "run",
]

_MODULES = {
    "SearchSettings": "segtune.sweeping.engine.search_settings",
    "Trial": "segtune.sweeping.engine.running",
    "TrialPruned": "optuna.exceptions",
    "current_trial": "segtune.sweeping.engine.running",
}
"""Name -> its module; `segtune.sweeping.engine.search` holds the others."""


def __getattr__(name: str) -> Any:
    """Load a name at its first use, so that other modules of this room load nothing else."""
    if name not in __all__:
        raise AttributeError(f"module 'segtune.sweeping' has no attribute '{name}'")
    return getattr(import_module(_MODULES.get(name, "segtune.sweeping.engine.search")), name)
