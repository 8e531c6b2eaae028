"""The folder of a segmenter, labeler or workflow: data, never code.

It holds weights, a description, and a manifest with the sha256 of both. A folder with a changed
byte, a missing file or an additional file is refused.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segtune.errors import DataError, StorageError
from segtune.runtime.atomic import atomic_folder

WEIGHTS, DESCRIPTION, MANIFEST = "model.safetensors", "segmenter.json", "manifest.json"
SCHEMA_VERSION = 1
_LARGEST_JSON = 1 << 26  # bytes


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
    _check_version(folder, manifest, MANIFEST)
    if manifest_hash and file_hash(folder / MANIFEST) != manifest_hash:
        raise DataError(
            f"segmenter '{folder}': {MANIFEST} is not the one that was registered. Register the "
            "segmenter again."
        )
    _check_files(folder, manifest.get("sha256"))
    description = _read_json(folder / DESCRIPTION)
    _check_version(folder, description, DESCRIPTION)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"segmenter '{folder}': {WEIGHTS} cannot be read: {error}") from None
    broken = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if broken:
        raise DataError(
            f"segmenter '{folder}': {len(broken)} of {len(tensors)} tensors hold NaN or infinity, "
            f"as '{broken[0]}', so it cannot answer; it is not loaded. Train it again."
        )
    return description, tensors


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _check_version(folder: Path, content: Mapping[str, Any], name: str) -> None:
    """Raise DataError for a file of another version of the format."""
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"segmenter '{folder}': {name} has schema version {version!r}; this segtune reads "
            f"{SCHEMA_VERSION}. Install the segtune that wrote it."
        )


def _check_files(folder: Path, hashes: Any) -> None:
    """Check that a folder holds the files of its manifest, unchanged, and no others.

    Raises:
        DataError: it does not.
    """
    if not isinstance(hashes, dict):
        raise DataError(f"segmenter '{folder}': {MANIFEST} names no files with their sha256.")
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
        if _hash_of_regular(folder / name) != digest:
            raise DataError(
                f"segmenter '{folder}': {name} was changed after it was saved (sha256 differs); it "
                "is not loaded."
            )


def _hash_of_regular(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        DataError: it is a folder, pipe or device, which may never end, or cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(
                f"segmenter '{path.parent}': {path.name} is no regular file; it is not loaded."
            )
        return file_hash(path)
    except OSError as error:
        raise DataError(f"segmenter '{path.parent}': {path.name} cannot be read: {error}") from None


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
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST_JSON:
            raise ValueError("no regular file, or larger than 64 MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"'{path.parent}' is not a segmenter: {path.name} cannot be read ({error})."
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"'{path.parent}' is not a segmenter: {path.name} holds no mapping.")
    return content
