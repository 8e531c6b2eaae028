"""Open a saved model folder: a segmenter, a labeler or a workflow."""

from pathlib import Path

from segtune.errors import DataError, nearest
from segtune.inference.labeler import RegionLabeler
from segtune.inference.saved import Device, SavedModel
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.models.folder import read_folder

AnyModel = Segmenter | RegionLabeler | Workflow

_CLASSES: dict[str, type[Segmenter] | type[RegionLabeler] | type[Workflow]] = {
    Segmenter.KIND: Segmenter,
    RegionLabeler.KIND: RegionLabeler,
    Workflow.KIND: Workflow,
}


def open_model(folder: Path, device: Device = None, manifest_hash: str | None = None) -> AnyModel:
    """Open a segmenter, labeler or workflow after checking every byte of its folder.

    Raises:
        DataError: changed files, an unknown kind, or weights that do not fit the described model.
    """
    info, tensors = read_folder(folder, manifest_hash)
    saved = SavedModel(info, tensors, str(folder))
    if saved.kind not in _CLASSES:
        raise DataError(
            f"'{folder}' is a {saved.kind}, which this version of segtune cannot open; "
            f"{nearest(saved.kind, _CLASSES)}"
        )
    return _CLASSES[saved.kind].from_saved(saved, device)
