"""The command that uses a model, as the verbs that make one suggest it next."""

from pathlib import Path
from typing import TYPE_CHECKING

from segtune.commands import command
from segtune.errors import SegtuneError

if TYPE_CHECKING:
    from segtune.dataset_settings import DatasetConfig
    from segtune.settings import TrackingConfig


def predict_command(model: str, run_id: str, tracking: "TrackingConfig") -> str:
    """The command that applies a model to the val images of the run that it came from.

    Args:
        model: URI of the model.
    """
    from segtune.tracking.recorded import recorded_config
    from segtune.tracking.store import open_store

    try:
        source = _val_images(recorded_config(open_store(tracking), run_id).dataset)
    except SegtuneError:  # the run or its data is gone
        source = "PATH"
    return command("predict", model=model, source=source, output=_new_folder(), tracking=tracking)


def _new_folder() -> str:
    """A folder for predictions that does not exist yet: `predict` refuses one that holds results."""
    number, folder = 1, "predictions"
    while Path(folder).exists():
        number += 1
        folder = f"predictions-{number}"
    return folder


def _val_images(dataset: "DatasetConfig") -> str:
    """The folder that holds a dataset's val images; among others where one folder holds all splits."""
    from segtune.data.sources import open_source

    source = open_source(dataset)
    folder = source.folder(source.config.images, "val")
    return str(folder) if folder.is_dir() else "PATH"
