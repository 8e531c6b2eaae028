"""Sweeps: a search space, a shared study, workers that pull trials.

`run` searches for the best value of any function. Neither this module nor what it gives needs
torch, Lightning or MLflow.

    from segtune import sweeping

    def objective(trial: sweeping.Trial) -> float:
        return float(trial.params["x"]) ** 2

    settings = sweeping.SearchSettings(folder="sweeps/square", n_trials=20)
    print(sweeping.run(objective, {"x": {"min": -5.0, "max": 5.0}}, settings).best)

`status` and `stop` look at such a search from another process, and end it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.exceptions import TrialPruned

    from segtune.sweeping.engine.running import Trial, current_trial
    from segtune.sweeping.engine.search import SearchResult, TrialResult, run
    from segtune.sweeping.engine.search_settings import SearchSettings
    from segtune.sweeping.engine.search_status import SearchStatus, status, stop

__all__ = [
    "SearchResult",
    "SearchSettings",
    "SearchStatus",
    "Trial",
    "TrialPruned",
    "TrialResult",
    "current_trial",
    "run",
    "status",
    "stop",
]

_MODULES = {
    "SearchSettings": "segtune.sweeping.engine.search_settings",
    "SearchStatus": "segtune.sweeping.engine.search_status",
    "Trial": "segtune.sweeping.engine.running",
    "TrialPruned": "optuna.exceptions",
    "current_trial": "segtune.sweeping.engine.running",
    "status": "segtune.sweeping.engine.search_status",
    "stop": "segtune.sweeping.engine.search_status",
}
"""Name -> its module; `segtune.sweeping.engine.search` holds the others."""


def __getattr__(name: str) -> Any:
    """Load a name at its first use, so that other modules of this room load nothing else."""
    if name not in __all__:
        raise AttributeError(f"module 'segtune.sweeping' has no attribute '{name}'")
    return getattr(import_module(_MODULES.get(name, "segtune.sweeping.engine.search")), name)
