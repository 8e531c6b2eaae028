"""A segmenter, labeler or workflow on disk is data, never code: weights, a description, a manifest with their hashes.

Reading one builds from our own table of names; a changed byte, a missing file or one too many is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segtune.errors import DataError, StorageError
from segtune.runtime.atomic import atomic_folder

WEIGHTS, DESCRIPTION, MANIFEST = "model.safetensors", "segmenter.json", "manifest.json"
SCHEMA_VERSION = 1


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> str:
    """Writes a segmenter folder, whole or not at all, in place of an earlier one.

    Returns:
        sha256 of the manifest: names this segmenter to the byte.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        with atomic_folder(folder, overwrite=True) as unfinished:
            weights = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            save_file(weights, unfinished / WEIGHTS)
            text = json.dumps(
                {"schema_version": SCHEMA_VERSION, **description}, indent=2, ensure_ascii=False
            )
            (unfinished / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
            hashes = {name: file_hash(unfinished / name) for name in (DESCRIPTION, WEIGHTS)}
            manifest = (
                json.dumps({"schema_version": SCHEMA_VERSION, "sha256": hashes}, indent=2) + "\n"
            )
            (unfinished / MANIFEST).write_text(manifest, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"segmenter folder '{folder}' cannot be written: {error}") from error
    return hashlib.sha256(manifest.encode()).hexdigest()


def read_folder(
    folder: Path, manifest_hash: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the weights of a segmenter folder, after every byte was checked.

    Args:
        manifest_hash: what the registry recorded; a manifest with another hash is refused.

    Raises:
        DataError: no segmenter, an unknown schema version, or files that were changed, removed or added.
    """
    manifest = _read_json(folder / MANIFEST)
    if manifest_hash and file_hash(folder / MANIFEST) != manifest_hash:
        raise DataError(
            f"segmenter '{folder}': {MANIFEST} is not the one that was registered. Register the segmenter again."
        )
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"segmenter '{folder}' has schema version {manifest.get('schema_version')!r}; this segtune reads "
            f"{SCHEMA_VERSION}. Install the segtune that wrote it."
        )
    expected: dict[str, str] = manifest.get("sha256") or {}
    found = {p.name for p in folder.iterdir()} - {MANIFEST}
    strange, gone = sorted(found - set(expected)), sorted({*expected, WEIGHTS, DESCRIPTION} - found)
    if strange or gone:
        what = f"holds {strange}, which its manifest does not name" if strange else f"lacks {gone}"
        raise DataError(
            f"segmenter '{folder}' {what}; it is not loaded. A segmenter is {WEIGHTS}, {DESCRIPTION}, {MANIFEST}."
        )
    for name, digest in expected.items():
        if file_hash(folder / name) != digest:
            raise DataError(
                f"segmenter '{folder}': {name} was changed after it was saved (sha256 differs); it is not loaded."
            )
    try:
        return _read_json(folder / DESCRIPTION), load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise DataError(f"segmenter '{folder}': {WEIGHTS} cannot be read: {error}") from None


def is_segmenter(folder: Path) -> bool:
    """Whether the folder looks like a segmenter (nothing is checked yet)."""
    return (folder / MANIFEST).is_file()


def file_hash(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        total = hashlib.sha256()
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def state_hash(module: nn.Module) -> str:
    """sha256 of a module's numbers and their names, hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"'{path.parent}' is not a segmenter: {path.name} cannot be read ({error})."
        ) from None
    if not isinstance(found, dict):
        raise DataError(f"'{path.parent}' is not a segmenter: {path.name} holds no mapping.")
    return found
