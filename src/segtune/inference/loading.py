"""Whatever was saved as a folder, opened as what it is."""

from pathlib import Path

import torch

from segtune.errors import DataError, nearest
from segtune.inference.labeler import RegionLabeler
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.models.folder import read_folder

_KINDS: dict[str, type[Segmenter] | type[RegionLabeler] | type[Workflow]] = {
    "segmenter": Segmenter,
    "labeler": RegionLabeler,
    "workflow": Workflow,
}


def open_model(
    folder: Path, device: str | torch.device | None = None, manifest_hash: str | None = None
) -> Segmenter | RegionLabeler | Workflow:
    """A segmenter, labeler or workflow, after every byte of its folder was checked.

    Raises:
        DataError: changed files, an unknown kind, or weights that do not fit the described model.
    """
    info, tensors = read_folder(folder, manifest_hash)
    kind = str(info.get("kind", "segmenter"))
    if kind not in _KINDS:
        raise DataError(
            f"'{folder}' is a {kind}, which this segtune does not know; {nearest(kind, _KINDS)}"
        )
    return _KINDS[kind].from_parts(info, tensors, device, str(folder))
