"""The pairs of images and masks by the patterns that the user gave."""

from collections.abc import Sequence
from pathlib import Path

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.proposal.pairing import Pairing
from segtune.data.proposal.stacks import File
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.source.patterns import SPLIT, fitting_files, is_narrower, of_split, splits_in


def stated_pairing(root: Path, config: DatasetConfig) -> Pairing | None:
    """The pairs by `dataset.images` and `dataset.masks`; None if these pair no files."""
    texts = splits_in(root, config.images) if SPLIT in config.images else [""]
    pairs, lonely, lonely_masks = [], [], []
    for text in texts:
        images = _files(root, config, text, of_masks=False)
        masks = _files(root, config, text, of_masks=True)
        if is_narrower(config.masks, config.images):
            taken = {file.path for file in masks.values()}
            images = {name: file for name, file in images.items() if file.path not in taken}
        pairs += [(file, masks[name]) for name, file in images.items() if name in masks]
        lonely += [file for name, file in images.items() if name not in masks]
        if SPLIT in config.masks:
            lonely_masks += [file for name, file in masks.items() if name not in images]
    if not pairs:
        return None
    return Pairing(
        config.images,
        config.masks,
        config.image_suffix,
        config.mask_suffix,
        tuple(pairs),
        tuple(lonely),
        tuple(lonely_masks),
    )


def _files(root: Path, config: DatasetConfig, text: str, of_masks: bool) -> dict[str, File]:
    """Name -> image, or mask, of a split."""
    suffixes: Sequence[str] = MASK_SUFFIXES if of_masks else IMAGE_SUFFIXES
    pattern = config.masks if of_masks else config.images
    end = config.mask_suffix if of_masks else config.image_suffix
    files = {}
    for name, path in fitting_files(root, of_split(pattern, text), suffixes, end):
        file = File.of(path.relative_to(root).as_posix(), text, (), name)
        files[file.name] = file
    return files
