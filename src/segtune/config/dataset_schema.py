"""The shape of a dataset's config: where its pairs are, how they are read, divided, cached and drawn."""

import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]

FilePath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
"""A file or folder; a leading `~` is the home folder."""

CLASSES_FILE = "classes.yaml"
"""Under a dataset's root: its classes, and what is ignored, finer and grouped, unless the config says otherwise."""

MaskId = Annotated[int, Field(ge=0, le=255)]
MaskFormat = Literal["index", "rgb", "rgb_nearest", "binary"]


class Settings(BaseModel):
    """Base of all sections: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


class StreetConfig(Settings):
    """The built-in street scenes.

    Attributes:
        width: of each image, in pixels.
        height: of each image, in pixels.
        train, val, test: images of the split.
        clips: videos.
        clip_frames: frames of each video.
        seed: of all scenes.
    """

    width: Annotated[int, Field(ge=64, le=2048)] = 256
    height: Annotated[int, Field(ge=64, le=2048)] = 192
    train: Count = 240
    val: Count = 60
    test: Count = 60
    clips: Annotated[int, Field(ge=0)] = 1
    clip_frames: Count = 48
    seed: int = 0


class DownloadConfig(Settings):
    """Where a public dataset comes from, and the content that must arrive.

    Attributes:
        url: of the archive.
        paths: folder inside the archive -> folder under the dataset's root.
        fingerprints: split -> sha256 over its files' names and bytes; a split not named here is not checked.
    """

    url: str
    paths: dict[str, str]
    fingerprints: dict[str, str] = {}


class SplitsConfig(Settings):
    """Divides a dataset anew, where its folders do not say which image belongs to which split.

    Images of one group (`dataset.groups`) never stand in two splits.

    Attributes:
        lists: file under root that names a split's images, one per line; `{split}` stands for the split.
        val: share of the images, without `lists` and `folds`.
        test: share of the images; 0 keeps the test split's own folder, where there is one.
        seed: of the division.
        stratify: gives every split its share of each class's images, the rarest class first.
        folds: divides what is not test into so many parts of equal size; part `fold` is val, the others train.
        fold: the part that is val, from 0.
    """

    lists: str | None = None
    val: Fraction = 0.2
    test: Fraction = 0.0
    seed: int = 0
    stratify: bool = False
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fits(self) -> "SplitsConfig":
        if self.val + self.test >= 1.0:
            raise ValueError(f"val={self.val} and test={self.test} leave nothing to train on")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold={self.fold} is none of 0..{self.folds - 1}")
        return self


class AnnotationsConfig(Settings):
    """How labelled areas become index masks, for formats that store areas; see `segtune.data.formats`.

    Attributes:
        format: `auto` looks at the files.
        order: which of two overlapping areas is on top: the smaller (`largest_first` paints the largest first), the
            later or the earlier in the file, or the one of higher z; `auto` takes the order that the format itself
            states (CVAT's z_order, the file's order in LabelMe), else the smaller.
        polygons: which pixels belong to a polygon: by `coco`'s rule (pycocotools: about those whose centre lies inside)
            or the `outline`'s too (Pillow: also those that it touches). `auto` is the rule of the tool that wrote the
            file: `outline` for LabelMe, and for COCO the one that agrees with the file's own areas.
        unlabelled: what a pixel becomes that no area covers.
        crowd: what COCO's crowd areas become.
        finer: attribute of an area that holds its finer label; `auto` takes finer, type, subtype, subclass or kind.
        relocate: `OLD:NEW` replaces the beginning of absolute paths that the annotations hold.
    """

    format: str = "auto"
    order: Literal["auto", "largest_first", "file", "file_reversed", "z"] = "auto"
    polygons: Literal["auto", "coco", "outline"] = "auto"
    unlabelled: Literal["background", "ignore"] = "background"
    crowd: Literal["class", "ignore"] = "class"
    finer: str = "auto"
    relocate: str | None = None


class FixesConfig(Settings):
    """What `segtune check --fix` writes: how to read a dataset in spite of its faults, without a change to any file.

    Files are named by their path under root.

    Attributes:
        quarantine: split -> images that are left out.
        pairs: image -> its mask.
        unrotated: images whose EXIF orientation is not applied.
        formats: image -> how its mask is stored, where that differs from the others.
        lists: split -> names, in place of a list that cannot be used as it is.
        splits, classes, label_map, mask_format, reduce_zero_label: in place of the dataset's own.
    """

    quarantine: dict[str, list[str]] = {}
    pairs: dict[str, str] = {}
    unrotated: list[str] = []
    formats: dict[str, MaskFormat] = {}
    lists: dict[str, list[str]] = {}
    splits: SplitsConfig | None = None
    classes: list[Any] | None = None
    label_map: dict[MaskId, MaskId] = {}
    mask_format: MaskFormat | None = None
    reduce_zero_label: bool | None = None


class TableConfig(Settings):
    """The class table as a run found it: in a recorded config, in place of `classes.yaml`.

    Attributes:
        classes: names, or mappings with name, color and finer.
        ignore: mask ids that count nowhere.
        finer: folder of finer masks under root.
        groups: pattern whose first match in an image's name is its group.
    """

    classes: list[Any]
    ignore: list[MaskId]
    finer: str | None
    groups: str | None


class DatasetConfig(Settings):
    """Image/mask pairs per split plus a class table.

    Attributes:
        name: of the dataset, in reports and the store.
        source: `folder` reads image and mask folders, `annotations` any format that `segtune import` reads (converted
            once, into the cache folder), `street` draws the built-in scenes.
        root: folder that holds the pairs; for `street`, where the scenes are kept (null: the cache folder).
        images: folder of a split's images under root; `{split}` stands for the split's name.
        masks: the same for masks: one per image, of the image's size and stem.
        folder_names: split -> what stands in place of `{split}` in folders and lists.
        image_suffix: end of every image's stem that its mask lacks, as `_leftImg8bit`; other images are passed over.
        mask_suffix: end of every mask's stem that its image lacks.
        mask_format: `index` holds ids (index, grey or palette; a palette's colours play no role), `rgb` the colours
            of the class table exactly, `rgb_nearest` about these, `binary` 0 for class 0 and bright for class 1.
        classes: names, or mappings with name, color and finer; null reads root's `classes.yaml`.
        ignore: mask ids that count nowhere.
        ignore_colors: the same for colours.
        finer: the same for finer masks: at each pixel the place of its finer label among its class's, 255 for none.
        label_map: mask id -> id, applied before the class table is checked; 255 ignores.
        reduce_zero_label: 0 is ignored and every other id lowered by one, after `label_map`.
        groups: pattern whose first match in an image's name is its group (video, scene, patient): images of one group
            are no independent evidence, and splits and intervals take that into account.
        fixes: file that `segtune check --fix` wrote.
        table: only in the config that a run recorded: classes, ignore, finer and groups as the run used them.
        street: for `source: street`, the scenes.
        download: where the dataset comes from, for one that segtune can fetch.
        licence: of the images, for the model card.
        tolerance: share of a split's files that may be unreadable: they are left out, and told; more is an error.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    source: Literal["folder", "annotations", "street"]
    root: FilePath | None = None
    images: str = "images/{split}"
    masks: str = "masks/{split}"
    folder_names: dict[str, str] = {}
    image_suffix: str = ""
    mask_suffix: str = ""
    mask_format: MaskFormat = "index"
    finer: str | None = None
    classes: list[Any] | None = None
    ignore: list[MaskId] = [255]
    ignore_colors: list[Annotated[list[MaskId], Field(min_length=3, max_length=3)]] = []
    label_map: dict[MaskId, MaskId] = {}
    reduce_zero_label: bool = False
    groups: Annotated[str, AfterValidator(_compiles)] | None = None
    splits: SplitsConfig | None = None
    annotations: AnnotationsConfig | None = None
    fixes: FilePath | FixesConfig | None = None
    table: TableConfig | None = None
    tolerance: Fraction = 0.05
    street: StreetConfig | None = None
    download: DownloadConfig | None = None
    licence: str = ""
    _words: tuple[str, ...] = PrivateAttr(())

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the command line that chose it; none for one that a run recorded."""
        return self._words

    def chosen_by(self, words: Sequence[str]) -> "DatasetConfig":
        """The same, with the words that chose it."""
        copy = self.model_copy()
        copy._words = tuple(words)
        return copy


class CacheConfig(Settings):
    """The decoded images that all workers and trials of this machine share, in the cache folder.

    Attributes:
        max_gb: of all datasets together; the least recently used go first. A split that does not fit is decoded
            whenever it is read. Features of frozen encoders (`tuning.cached_views`) may take as much again.
    """

    max_gb: Annotated[float, Field(ge=0.0)] = 20.0


class SamplingConfig(Settings):
    """Which images an epoch shows, and which part of each; see `conf/sampling/`.

    Attributes:
        images: `shuffle` shows each once; `class_balanced` draws with replacement: first a class, each as likely as
            any other, then an image that holds it.
        rare_crops: share of the crops that are laid around a pixel of a class drawn by inverse frequency.
        max_ignored: a crop of which more than this share is ignored is drawn again, up to ten times.
    """

    images: Literal["shuffle", "class_balanced"] = "shuffle"
    rare_crops: Fraction = 0.0
    max_ignored: Fraction = 1.0
