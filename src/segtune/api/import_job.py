"""What an import reads, and how: a format of annotations, or folders of images and masks."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.config.commands import word
from segtune.errors import DataError
from segtune.runtime.log import Log, silent

if TYPE_CHECKING:
    from segtune.config.dataset_schema import DatasetConfig
    from segtune.data.proposal.proposal import Proposal
    from segtune.data.source.layout import Source


@dataclass(frozen=True)
class ImportJob:
    """A source of images and labels.

    Attributes:
        root: folder or table.
        format: one of `segtune.data.formats.formats`, or a dataset with the same folders.
        words: keys of the dataset, of the user and of the finder.
        proposal: how the finder reads the folder; None where nothing had to be found.
    """

    root: Path
    format: str
    words: Sequence[str]
    proposal: "Proposal | None" = None

    def convert(self, target: Path, say: Log) -> Counter[str]:
        """Write the dataset in the canonical layout; return the number of images by split."""
        from segtune.data.formats.canonical import convert
        from segtune.data.source.download import build_folder

        if self._is_annotated:
            return convert(self._annotations_config(), self.root, target, say)
        source = self._source(say)
        is_grouped = self.proposal is not None and "groups" in self.proposal.settings
        counts: Counter[str] = Counter()

        def build(folder: Path) -> None:
            counts.update(_rewrite(source, folder, say, is_grouped))

        build_folder(target, build)
        return counts

    @property
    def proposed(self) -> tuple[str, ...]:
        """The words of the finder; empty where nothing had to be found."""
        return tuple(self.proposal.words()) if self.proposal is not None else ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Images without a mask, of folders of images and masks."""
        return self.proposal.left_out if self.proposal is not None else ()

    def plan(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """The number of images by split, and the classes; no mask is read.

        Images of annotations without a split, which an import divides, count as `undivided`.
        """
        if not self._is_annotated:
            source = self._source()
            counts = {split: len(source.pairs(split)) for split in source.splits()}
            return counts, source.classes.names
        from segtune.data.formats import read

        annotations = read(self.root, self._annotations_config())
        splits = Counter(image.split or "undivided" for image in annotations.images)
        return dict(splits), tuple(str(row["name"]) for row in annotations.classes)

    def write_picture(self, target: Path) -> Path | None:
        """Draw three samples beside the output, as the proposal reads them; return the picture.

        None for a known format, or where no sample can be read.
        """
        from segtune.data.proposal.picture import write_samples

        path = target.with_name(f"{target.name}.samples.png")
        if self.proposal is None or not write_samples(self._source(), path):
            return None
        return path

    @property
    def _is_annotated(self) -> bool:
        from segtune.data.formats import formats

        return self.format in formats()

    def _annotations_config(self) -> "DatasetConfig":
        from segtune.config.compose import compose
        from segtune.data.formats import declarations
        from segtune.data.formats.unused_keys import refuse_unused_keys

        words = ["dataset=coco", f"dataset.annotations.format={self.format}"]
        config = compose([*words, word("dataset.root", str(self.root)), *self.words]).config.dataset
        refuse_unused_keys(config, self.format, declarations())
        return config.model_copy(update={"name": self.format})

    def _source(self, say: Log = silent) -> "Source":
        """The folders of images and masks, without the images that have no mask.

        Raises:
            DataError: no folder is a split.
        """
        from segtune.config.compose import compose
        from segtune.config.dataset_schema import FixesConfig
        from segtune.data.formats import declarations
        from segtune.data.formats.contents import contents
        from segtune.data.formats.declaration import Declaration
        from segtune.data.formats.unused_keys import refuse_unused_options
        from segtune.data.source.split_words import SPLITS
        from segtune.data.sources import open_source

        words = [f"dataset={self.format}", word("dataset.root", str(self.root)), *self.words]
        config = compose(words).config.dataset
        known = {**declarations(), self.format: Declaration(keys=())}
        refuse_unused_options(config, self.format, known)
        if self.proposal is not None and self.proposal.left_out and config.fixes is None:
            left_out = list(self.proposal.left_out)
            fixes = FixesConfig(quarantine={s: left_out for s in SPLITS})
            config = config.model_copy(update={"fixes": fixes})
        source = open_source(config, say)
        if not source.splits():
            raise DataError(
                f"'{self.root}' holds {contents(self.root)}, but no split in '{config.images}'. "
                "Name the folders: 'dataset.images=\"images/{split}\"' "
                "'dataset.masks=\"masks/{split}\"', or, for folders without splits, "
                "dataset.images=images dataset.masks=masks dataset.splits.val=0.2"
            )
        return source


def _rewrite(source: "Source", folder: Path, say: Log, is_grouped: bool) -> Counter[str]:
    """Write a dataset that has folders of images and masks in the canonical layout.

    Args:
        is_grouped: images get a folder for each group.
    """
    from segtune.data.formats.areas import Annotations, LabelledImage
    from segtune.data.formats.canonical import write_canonical
    from segtune.data.source.files import read_bytes

    items = []
    for split in source.splits():
        for pair in source.pairs(split):

            def mask(pair: Any = pair) -> Any:
                return source.masks.read(read_bytes(pair.mask), str(pair.mask), pair.form)

            group = source.group(pair.name) if is_grouped else None
            items.append(LabelledImage(pair.name, pair.image, split, mask=mask, group=group))
    counts = write_canonical(
        Annotations(source.classes.to_json(), items), folder, source.config, say
    )
    if source.config.finer:
        for item in items:
            assert item.split is not None
            stored = source.finer_file(item.split, item.name)
            target = folder / "finer" / item.split / f"{item.name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, target)
    return counts
