"""The schema of a dataset's config: how its pairs are found, read, split, cached and sampled."""

import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]

FilePath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
"""A file or folder; a leading `~` stands for the home folder."""

CLASSES_FILE = "classes.yaml"
"""File under a dataset's root: its classes, ignored ids, finer masks and groups.

Keys of the config come before it.
"""

NOTES_FILE = "import_notes.txt"
"""File under the root of converted annotations: a line for each note on shapes that were left out,
or that others hide.
"""

# OLD may be a path of Windows
RELOCATION = re.compile(r"((?:[A-Za-z]:(?=[/:]))?[^:]*):(.*)")
"""OLD:NEW of `annotations.relocate`, with `/` for each backslash."""

MaskId = Annotated[int, Field(ge=0, le=255)]
StoredId = Annotated[int, Field(ge=-(2**31), le=2**32 - 1)]
"""A value that a mask file stores: also negative, or of 16 or 32 bits."""

ValueRange = Annotated[list[float], Field(min_length=2, max_length=2)]
Bands = Annotated[list[Count], Field(min_length=1, max_length=3)]
MaskFormat = Literal["index", "rgb", "rgb_nearest", "binary", "alpha"]


class Settings(BaseModel):
    """Base of all sections: it refuses unknown keys, and its values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


def _is_relocation(text: str) -> str:
    match = RELOCATION.fullmatch(text.replace("\\", "/"))
    if match is None or not match[1]:
        raise ValueError("OLD:NEW is allowed, as /content/set:. for paths that begin so")
    return text


class StreetConfig(Settings):
    """The built-in street scenes.

    Attributes:
        width: width of each image, in pixels.
        height: height of each image, in pixels.
        train, val, test: number of images in this split.
        clips: number of videos.
        clip_frames: number of frames in each video.
        seed: seed of all scenes.
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
    """The source of a public dataset, and the content that must arrive.

    Attributes:
        url: address of the archive, http:// or https://.
        paths: folder inside the archive -> folder under the dataset's root. Both are relative.
        fingerprints: split -> sha256 of its files' names and bytes; other splits are not checked.
        sha256: of the archive. This or a fingerprint is required.
        max_gb: largest size of the archive, and of its wanted files together, in GB.
    """

    url: str
    paths: dict[str, str]
    fingerprints: dict[str, str] = {}
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    max_gb: Annotated[float, Field(gt=0)] = 20.0


class SplitsConfig(Settings):
    """Splits a dataset, where its folders do not say to which split an image belongs.

    Images of one group (`dataset.groups`) never go to two splits.

    Attributes:
        lists: file under root that names the images of a split, one in each line; `{split}` stands
            for the name of the split.
        val: share of the images; not used with `lists` or `folds`.
        test: share of the images; 0 keeps the folder of the test split, if there is one.
        seed: seed of the random split.
        stratify: give every split the same share of each class's images, the rarest class first.
        folds: divide the images outside test into so many parts of equal size; part `fold` is val,
            the others are train.
        fold: number of the part that is val, from 0.
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
    """The conversion of labelled areas to index masks, for formats that store areas.

    Attributes:
        format: name of the format; `auto` looks at the files.
        order: which one of two overlapping areas is on top. `largest_first` puts the smaller area
            on top, `file` the later one in the file, `file_reversed` the earlier one, `z` the one
            with the higher z. `auto` takes the order that the format defines (z_order in CVAT, the
            order of the file in LabelMe), else `largest_first`.
        polygons: which pixels belong to a polygon. `coco` takes pixels whose centre is inside, as
            pycocotools does; `outline` also takes pixels that the polygon touches, as Pillow does.
            `auto` takes the rule of the tool that wrote the file: `outline` for LabelMe, and for
            COCO the rule that made the areas in the file, `coco` where neither did.
        unlabelled: class of the pixels outside all areas.
        crowd: class of the pixels in COCO's crowd areas.
        finer: attribute of an area that holds its finer label; `auto` takes finer, type, subtype,
            subclass or kind.
        label: for `huggingface` the column of masks; for VIA the attribute of an area that holds
            its class: `auto` takes class, label, name, category, type or object, else the only one.
        relocate: `OLD:NEW` replaces the beginning of absolute paths in the annotations.
        runs: for `kaggle_rle`, whether run lengths count pixels column by column, or row by row.
        annotator: Label Studio's id or e-mail of the only annotator whose annotations count; null
            takes the ground truth of a task, else the last annotation that holds something.
    """

    format: str = "auto"
    order: Literal["auto", "largest_first", "file", "file_reversed", "z"] = "auto"
    polygons: Literal["auto", "coco", "outline"] = "auto"
    unlabelled: Literal["background", "ignore"] = "background"
    crowd: Literal["class", "ignore"] = "class"
    finer: str = "auto"
    label: str = "auto"
    relocate: Annotated[str, AfterValidator(_is_relocation)] | None = None
    runs: Literal["columns", "rows"] = "columns"
    annotator: str | None = None


class FixesConfig(Settings):
    """Repairs of how a dataset is read, written by `segtune check --fix`; its files do not change.

    Files are named by their path under root.

    Attributes:
        quarantine: split -> images that are left out.
        pairs: image -> its mask.
        unrotated: images whose EXIF orientation is ignored.
        formats: image -> format of its mask, where it differs from the other masks.
        lists: split -> names, in place of a list that cannot be used.
        groups: images that are nearly equal; each list of them counts as one group.
        splits, classes, label_map, mask_format: replaces the value of the dataset.
        reduce_zero_label, value_range, bands, page: replaces the value of the dataset.
    """

    REPLACED: ClassVar = (
        "splits",
        "classes",
        "mask_format",
        "reduce_zero_label",
        "value_range",
        "bands",
        "page",
    )

    quarantine: dict[str, list[str]] = {}
    pairs: dict[str, str] = {}
    unrotated: list[str] = []
    formats: dict[str, MaskFormat] = {}
    lists: dict[str, list[str]] = {}
    groups: list[list[str]] = []
    splits: SplitsConfig | None = None
    classes: list[Any] | None = None
    label_map: dict[StoredId, MaskId] = {}
    mask_format: MaskFormat | None = None
    reduce_zero_label: bool | None = None
    value_range: ValueRange | None = None
    bands: Bands | None = None
    page: Count | None = None


class TableConfig(Settings):
    """The class table that a run used; a recorded config holds it in place of `classes.yaml`.

    Attributes:
        classes: names, or mappings with name, color and finer.
        ignore: mask ids that neither the loss nor any metric counts.
        finer: folder of finer masks under root.
        groups: regular expression; its first match in an image's name is the group of the image.
        thin_classes: classes that are thin lines or layers between others.
    """

    classes: list[Any]
    ignore: list[MaskId]
    finer: str | None
    groups: str | None
    thin_classes: list[str] = []


class DatasetConfig(Settings):
    """Image/mask pairs by split, and a class table.

    Attributes:
        name: name of the dataset in reports and in the store.
        source: `folder` reads folders of images and masks; `annotations` reads any format of
            `segtune import`, and converts it once into the cache folder; `street` draws the
            built-in scenes.
        root: folder of the pairs; for `street`, folder of the scenes (null: the cache folder).
        images: folder of a split's images under root; `{split}` stands for the name of the split,
            `{folder}` for a folder of any name, which becomes part of the image's name. With
            `{name}` for the image's name it is a pattern of files: `{split}/{name}_sat.jpg`.
        masks: folder or pattern of a split's masks; each mask has the size and the name of its
            image.
        folder_names: split -> text that replaces `{split}` in folders and lists.
        image_suffix: end of every image's stem that its mask lacks, such as `_leftImg8bit`; images
            without it are skipped.
        mask_suffix: end of every mask's stem that its image lacks.
        mask_format: `index` masks hold ids (index, grey or palette; the colours of a palette do not
            matter). `rgb` masks hold exactly the colours of the class table, `rgb_nearest` about
            these colours. `binary` masks are 0 for class 0 and bright for class 1; a mask of two
            values is 0 and any other value. `alpha` masks are class 1 where they are opaque.
        classes: names, or mappings with name, color and finer; null reads `classes.yaml` in root.
        ignore: mask ids that neither the loss nor any metric counts.
        thin_classes: names of classes that are thin lines or layers between others. Masks are not
            taken for interpolated where a border passes through one of them, or through a class
            whose name says a line, as `boundary`.
        ignore_colors: colours of a mask that neither the loss nor any metric counts.
        finer: folder of finer masks under root. Each pixel holds the index of its finer label in
            the list of its class; 255 is none.
        label_map: mask id -> id, applied before the class table is checked; 255 is ignored. Also
            ids that no class may have are mapped, such as -1 or 1000.
        reduce_zero_label: ignore id 0 and lower every other id by one, after `label_map`.
        groups: regular expression; its first match in an image's name is the group of the image
            (video, scene, patient). Images of one group are not independent: splits keep them
            together, and confidence intervals take it into account.
        splits: how the images are split; null follows the folders.
        annotations: for the source `annotations`, how areas become masks.
        fixes: file that `segtune check --fix` wrote.
        unlabelled: folder of further train images without masks, also in its subfolders; they
            learn the soft labels of `loss.teacher` alone. Each epoch shows at most as many of them
            as labelled ones.
        table: only in a recorded config: classes, ignore, finer and groups, as the run used them.
        street: for the source `street`, the scenes.
        download: where segtune downloads the dataset from.
        licence: licence of the images, for the model card.
        value_range: [black, white], the values of image files that become 0 and 255; null takes
            the whole range of their type. For inference the model keeps it, `bands` and `page`.
        bands: one to three bands of image files, counted from 1, that are read as grey or as red,
            green and blue; null takes those that a file names.
        page: page of images and masks that is read, counted from 1.
        mask_variable: array that is read of a mask in a MATLAB file (`.mat`) with several, as `S`
            or `GTcls.Segmentation`.
        tolerance: share of a split's files, and of the shapes in annotations, that may be
            unreadable. They are left out with a warning; a larger share is an error.
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
    thin_classes: list[str] = []
    ignore_colors: list[Annotated[list[MaskId], Field(min_length=3, max_length=3)]] = []
    label_map: dict[StoredId, MaskId] = {}
    reduce_zero_label: bool = False
    groups: Annotated[str, AfterValidator(_compiles)] | None = None
    splits: SplitsConfig | None = None
    annotations: AnnotationsConfig | None = None
    fixes: FilePath | FixesConfig | None = None
    unlabelled: FilePath | None = None
    table: TableConfig | None = None
    value_range: ValueRange | None = None
    bands: Bands | None = None
    page: Count | None = None
    mask_variable: str | None = None
    tolerance: Fraction = 0.05
    street: StreetConfig | None = None
    download: DownloadConfig | None = None
    licence: str = ""
    _words: tuple[str, ...] = PrivateAttr(())

    @property
    def words(self) -> tuple[str, ...]:
        """The command-line words that chose the dataset; none for a recorded dataset."""
        return self._words

    def chosen_by(self, words: Sequence[str]) -> "DatasetConfig":
        """Return the dataset with the command-line words that chose it."""
        copy = self.model_copy()
        copy._words = tuple(words)
        return copy


class CacheConfig(Settings):
    """The decoded images in the cache folder, which all workers and trials of a machine share.

    Attributes:
        max_gb: largest size, of all datasets together. The least recently used images are deleted
            first. A split that does not fit is decoded at each read. The features of frozen
            encoders (`tuning.cached_views`) may take the same size again.
    """

    max_gb: Annotated[float, Field(ge=0.0)] = 20.0


class SamplingConfig(Settings):
    """Which images an epoch shows, and which part of each; see `conf/sampling/`.

    Attributes:
        images: `shuffle` shows each image once. `class_balanced` draws with replacement: first a
            class, all equally likely, then an image that contains it.
        rare_crops: share of the crops that are placed around a pixel of a rare class; the class is
            drawn by inverse frequency.
        max_ignored: largest share of ignored pixels in a crop; other crops are drawn again, up to
            ten times.
    """

    images: Literal["shuffle", "class_balanced"] = "shuffle"
    rare_crops: Fraction = 0.0
    max_ignored: Fraction = 1.0
