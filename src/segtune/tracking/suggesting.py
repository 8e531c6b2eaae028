"""The command that uses a model, as what makes or measures one suggests it next."""

from pathlib import Path

from segtune.config.commands import command
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.sources import open_source
from segtune.errors import SegtuneError
from segtune.tracking.recorded import recorded_config
from segtune.tracking.registry import version_run
from segtune.tracking.store import Store


def predict_command(store: Store, model: str, dataset: DatasetConfig | None = None) -> str:
    """The command that applies a model to val images, into a folder that does not exist yet.

    Args:
        model: `runs:/ID`, `models:/NAME@champion`, `models:/NAME/3`, or a folder.
        dataset: whose images; None for the one that the model's run recorded. Where it is not there, or not known, the
            command names PATH instead of its images.
    """
    try:
        source = _val_images(dataset or _recorded_dataset(store, model))
    except SegtuneError:  # the run or its data is gone
        source = "PATH"
    return command(
        "predict", model=model, source=source, output=_new_folder(), tracking=store.tracking
    )


def _recorded_dataset(store: Store, model: str) -> DatasetConfig:
    run_id = (
        version_run(store, model).id
        if model.startswith("models:/")
        else model.removeprefix("runs:/")
    )
    return recorded_config(store, run_id).dataset


def _val_images(dataset: DatasetConfig) -> str:
    """The folder that holds a dataset's val images; among others where one folder holds all splits."""
    source = open_source(dataset)
    folder = source.folder(source.config.images, "val")
    return str(folder) if folder.is_dir() else "PATH"


def _new_folder() -> str:
    """`predict` refuses a folder that holds results."""
    number, folder = 1, "predictions"
    while Path(folder).exists():
        number += 1
        folder = f"predictions-{number}"
    return folder
