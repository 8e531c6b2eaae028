"""The folder of a segmenter, labeler or workflow: data, never code.

It holds weights, a description, and a manifest with the sha256 of both. A folder with a changed
byte, a missing file or an additional file is refused.
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
    """Write a segmenter folder; it replaces an earlier one when it is complete.

    Returns:
        sha256 of the manifest, which identifies every byte of the segmenter.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        with atomic_folder(folder, overwrite=True) as unfinished:
            weights = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            save_file(weights, unfinished / WEIGHTS)
            versioned = {"schema_version": SCHEMA_VERSION, **description}
            text = json.dumps(versioned, indent=2, ensure_ascii=False)
            (unfinished / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
            hashes = {name: file_hash(unfinished / name) for name in (DESCRIPTION, WEIGHTS)}
            contents = {"schema_version": SCHEMA_VERSION, "sha256": hashes}
            manifest = json.dumps(contents, indent=2) + "\n"
            (unfinished / MANIFEST).write_text(manifest, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"segmenter folder '{folder}' cannot be written: {error}") from error
    return hashlib.sha256(manifest.encode()).hexdigest()


def read_folder(
    folder: Path, manifest_hash: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check every byte of a segmenter folder, then read its description and weights.

    Args:
        manifest_hash: sha256 that the registry recorded; a manifest with another one is refused.

    Raises:
        DataError: no segmenter, an unknown schema version, or files that were changed, removed or
            added.
    """
    manifest = _read_json(folder / MANIFEST)
    if manifest_hash and file_hash(folder / MANIFEST) != manifest_hash:
        raise DataError(
            f"segmenter '{folder}': {MANIFEST} is not the one that was registered. Register the "
            "segmenter again."
        )
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"segmenter '{folder}' has schema version {version!r}; this segtune reads "
            f"{SCHEMA_VERSION}. Install the segtune that wrote it."
        )
    _check_files(folder, manifest.get("sha256") or {})
    try:
        return _read_json(folder / DESCRIPTION), load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise DataError(f"segmenter '{folder}': {WEIGHTS} cannot be read: {error}") from None


def _check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    """Check that a folder holds the files of its manifest, unchanged, and no others.

    Raises:
        DataError: it does not.
    """
    names = {p.name for p in folder.iterdir()} - {MANIFEST}
    additional = sorted(names - set(hashes))
    missing = sorted({*hashes, WEIGHTS, DESCRIPTION} - names)
    fault = ""
    if additional:
        fault = f"holds {additional}, which its manifest does not name"
    elif missing:
        fault = f"lacks {missing}"
    if fault:
        raise DataError(
            f"segmenter '{folder}' {fault}; it is not loaded. A segmenter is {WEIGHTS}, "
            f"{DESCRIPTION}, {MANIFEST}."
        )
    for name, digest in hashes.items():
        if file_hash(folder / name) != digest:
            raise DataError(
                f"segmenter '{folder}': {name} was changed after it was saved (sha256 differs); it "
                "is not loaded."
            )


def is_segmenter(folder: Path) -> bool:
    """Whether the folder has a manifest; its contents are not checked."""
    return (folder / MANIFEST).is_file()


def file_hash(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_hash(module: nn.Module) -> str:
    """sha256 of a module's tensors and their names, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"'{path.parent}' is not a segmenter: {path.name} cannot be read ({error})."
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"'{path.parent}' is not a segmenter: {path.name} holds no mapping.")
    return content
