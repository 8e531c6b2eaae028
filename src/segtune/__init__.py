"""Fine-tunes visual segmenters, searches their hyperparameters, compares them honestly, puts the best to work.

>>> import segtune
>>> segtune.__version__
'0.1.0'

The main job: `segtune.sweep("quickstart")`, `segtune.compare("quickstart")`, `segtune.promote("quickstart", "street")`,
`segtune.load("models:/street@champion").segment("photo.jpg")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "check",
    "compare",
    "confirm",
    "evaluate",
    "export",
    "import_dataset",
    "list_entries",
    "load",
    "plan_sweep",
    "predict",
    "promote",
    "promote_workflow",
    "rank_labels",
    "read_image",
    "retry",
    "rollback",
    "status",
    "stop",
    "sweep",
    "templates",
    "train",
    "worker",
    "workflow",
]

if TYPE_CHECKING:
    from segtune.api.datasets import check, export, import_dataset, rank_labels
    from segtune.api.experiments import (
        compare,
        confirm,
        evaluate,
        list_entries,
        plan_sweep,
        promote,
        retry,
        rollback,
        status,
        stop,
        sweep,
        templates,
        train,
        worker,
    )
    from segtune.api.prediction import load, predict, promote_workflow, workflow
    from segtune.data.reading.images import read_image


_ELSEWHERE = {
    **dict.fromkeys(("check", "export", "import_dataset", "rank_labels"), "segtune.api.datasets"),
    "read_image": "segtune.data.reading.images",
    **dict.fromkeys(("load", "predict", "promote_workflow", "workflow"), "segtune.api.prediction"),
}


def __getattr__(name: str) -> Any:
    """Loads the functions on first use: `import segtune` costs nothing."""
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, "segtune.api.experiments")), name)
    raise AttributeError(f"module 'segtune' has no attribute '{name}'")
