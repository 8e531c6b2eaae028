"""Fine-tune visual segmenters, search their hyperparameters, compare them, and use the best one.

>>> import segtune
>>> segtune.__version__
'0.1.0'

The main job in four calls:

    segtune.sweep("quickstart")
    segtune.compare("quickstart")
    segtune.promote("quickstart", "street")
    segtune.load("models:/street@champion").segment("photo.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "auto",
    "autolabel",
    "check",
    "compare",
    "confirm",
    "evaluate",
    "export",
    "import_dataset",
    "list_entries",
    "load",
    "load_plugins",
    "merge",
    "plan_sweep",
    "predict",
    "promote",
    "promote_workflow",
    "rank_labels",
    "read_image",
    "register",
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
    from segtune.api.auto import auto
    from segtune.api.datasets import check, export, rank_labels
    from segtune.api.experiments import (
        compare,
        confirm,
        evaluate,
        list_entries,
        promote,
        rollback,
        templates,
        train,
    )
    from segtune.api.importing import import_dataset
    from segtune.api.labelling import autolabel
    from segtune.api.merging import merge
    from segtune.api.prediction import load, predict, promote_workflow, workflow
    from segtune.api.sweeps import plan_sweep, retry, status, stop, sweep, worker
    from segtune.data.reading.images import read_image
    from segtune.plugins.loading import load_plugins
    from segtune.plugins.registry import register

_MODULES = {
    "segtune.api.auto": ("auto",),
    "segtune.api.datasets": ("check", "export", "rank_labels"),
    "segtune.api.importing": ("import_dataset",),
    "segtune.api.labelling": ("autolabel",),
    "segtune.api.merging": ("merge",),
    "segtune.api.prediction": ("load", "predict", "promote_workflow", "workflow"),
    "segtune.api.sweeps": ("plan_sweep", "retry", "status", "stop", "sweep", "worker"),
    "segtune.data.reading.images": ("read_image",),
    "segtune.plugins.loading": ("load_plugins",),
    "segtune.plugins.registry": ("register",),
}
"""Module -> public functions; `segtune.api.experiments` holds the others."""


def __getattr__(name: str) -> Any:
    """Load a function at its first use, so that `import segtune` is fast."""
    if name not in __all__:
        raise AttributeError(f"module 'segtune' has no attribute '{name}'")
    modules = [module for module, names in _MODULES.items() if name in names]
    return getattr(import_module(modules[0] if modules else "segtune.api.experiments"), name)
