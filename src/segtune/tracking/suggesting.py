"""The command that uses a model, printed as the next step after training, sweeping or promoting."""

from pathlib import Path

from segtune.config.commands import command
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.sources import open_source
from segtune.errors import SegtuneError
from segtune.tracking.recorded import recorded_config
from segtune.tracking.registry import version_run
from segtune.tracking.store import Store


def predict_command(store: Store, model: str, dataset: DatasetConfig | None = None) -> str:
    """Return the command that applies a model to val images and writes to a new folder.

    The command names PATH instead of the images if the dataset is missing or unknown.

    Args:
        model: `runs:/ID`, `models:/NAME@champion`, `models:/NAME/3`, or a folder.
        dataset: source of the images; by default the dataset that the model's run recorded.
    """
    try:
        source = _val_images(dataset or _recorded_dataset(store, model))
    except SegtuneError:  # the run or its data was removed
        source = "PATH"
    return command(
        "predict", model=model, source=source, output=_new_folder(), tracking=store.tracking
    )


def _recorded_dataset(store: Store, model: str) -> DatasetConfig:
    if model.startswith("models:/"):
        run_id = version_run(store, model).id
    else:
        run_id = model.removeprefix("runs:/")
    return recorded_config(store, run_id).dataset


def _val_images(dataset: DatasetConfig) -> str:
    """Return the folder of val images; it may hold the images of other splits as well."""
    source = open_source(dataset)
    folder = source.folder(source.config.images, "val")
    return str(folder) if folder.is_dir() else "PATH"


def _new_folder() -> str:
    """Return the name of a folder that does not exist: `predict` refuses a folder with results."""
    number, folder = 1, "predictions"
    while Path(folder).exists():
        number += 1
        folder = f"predictions-{number}"
    return folder
