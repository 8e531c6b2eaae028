"""Label images for a labelling tool: what a segmenter proposes, the least certain first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from segtune.api.prediction import predict
from segtune.config.defaults import ROOT
from segtune.errors import ConfigError, DataError
from segtune.runtime.log import Log, to_stderr

ProposalFormat = Literal["coco", "label_studio"]

_FILES: Mapping[str, str] = {"coco": "coco.json", "label_studio": "label_studio.json"}
_CONFIG = "label_studio.xml"
_REQUEST = "request.json"  # what regions.json was asked for


@dataclass(frozen=True)
class Proposals:
    """What `autolabel` wrote.

    Attributes:
        files: of the labelling tools.
        images: image -> mean confidence of its proposals, in [0, 1]; the least certain first.
        failed: file -> the reason why it was left out.
    """

    output: Path
    files: list[str]
    images: dict[str, float]
    failed: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, for scripts."""
        return asdict(self) | {"output": str(self.output)}


def autolabel(  # 9 parameters: keyword arguments of the public API
    model: str | Path,
    source: str | Path | Sequence[str | Path],
    output: str | Path = "proposals",
    *,
    formats: tuple[ProposalFormat, ...] = ("coco", "label_studio"),
    min_area: int = 64,
    overwrite: bool = False,
    root: str = ROOT,
    uri: str | None = None,
    say: Log = to_stderr,
) -> Proposals:
    """Write proposals for a labelling tool, each with its confidence; least certain images first.

    The same call resumes after an interruption.

    Args:
        model: a segmenter or workflow: URI, run or folder.
        source: files, folders or globs of images, or `NAME:SPLIT` for the images of a dataset.
        output: folder to write.
        formats: `coco` writes coco.json with masks; `label_studio` writes tasks with polygons, and
            the labelling interface beside them.
        min_area: areas of fewer pixels are not proposed.
        overwrite: replace earlier proposals.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    unknown = [name for name in formats if name not in _FILES]
    if unknown or not formats:
        raise ConfigError(f"formats={','.join(unknown)}: allowed are {', '.join(_FILES)}.")
    folder = Path(output)
    written = [folder / _FILES[name] for name in formats]
    taken = [path.name for path in written if path.exists()]
    if taken and not overwrite:
        raise ConfigError(
            f"output '{folder}' holds {', '.join(taken)} already. Choose another output=DIR, or "
            "add overwrite=true."
        )
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    request = {"model": str(model), "source": [str(s) for s in sources], "min_area": min_area}
    if overwrite or not _is_predicted(folder, request):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        predict(
            model,
            source,
            folder,
            regions="components",
            overwrite=overwrite,
            root=root,
            uri=uri,
            say=say,
            formats=("regions",),
            min_area=min_area,
        )
    images, failed = _write(folder, formats, str(model))
    return Proposals(folder, [path.name for path in written], images, failed)


def _is_predicted(folder: Path, request: Mapping[str, Any]) -> bool:
    """Whether a folder holds the regions of these images by this model.

    Raises:
        ConfigError: it holds others.
    """
    if not (folder / "regions.json").exists():
        return False
    path = folder / _REQUEST
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != request:
        raise ConfigError(
            f"output '{folder}' holds regions of another model, of other images or areas. Choose "
            "another output=DIR, or add overwrite=true."
        )
    return True


def _write(
    folder: Path, formats: Sequence[str], model: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Write the files; return the certainty of each image, and the reasons of those left out."""
    from segtune.classes import ClassTable
    from segtune.inference.prediction.files import write_json, write_text
    from segtune.inference.regions.proposals import (
        certainty,
        label_config,
        least_certain_first,
        to_label_studio,
    )
    from segtune.inference.regions.regions import read_document
    from segtune.inference.regions.writers import to_coco

    document = read_document(folder / "regions.json")
    classes = ClassTable.parse(document["classes"])
    rows = least_certain_first(document["images"])
    if not rows:
        raise DataError(f"'{folder / 'regions.json'}' has no image: autolabel takes images alone.")
    if "coco" in formats:
        dataset = to_coco(rows, classes)
        for image, row in zip(dataset["images"], rows, strict=True):
            image["score"] = certainty(row)
        write_json(folder / _FILES["coco"], dataset)
    if "label_studio" in formats:
        write_text(folder / _CONFIG, label_config(classes))
        write_json(folder / _FILES["label_studio"], to_label_studio(rows, model))
    return {row["file"]: certainty(row) for row in rows}, dict(document.get("failed", {}))
