"""The shape of a composed config: every key, its type and its range. Python owns the defaults that nobody changes."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]

MaskId = Annotated[int, Field(ge=0, le=255)]
MaskFormat = Literal["index", "rgb", "rgb_nearest", "binary"]
LossName = Literal["cross_entropy", "dice", "focal", "lovasz"]


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
    """The built-in street scenes: image size in pixels, how many images a split holds, and the seed of them all."""

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
        stratify: gives every split its share of each class's images, the rarest class first.
        folds: divides what is not test into so many parts of equal size; part `fold` is val, the others train.
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
        splits, classes: in place of the dataset's own.
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


class DatasetConfig(Settings):
    """Image/mask pairs per split plus a class table.

    Attributes:
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
        tolerance: share of a split's files that may be unreadable: they are left out, and told; more is an error.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    source: Literal["folder", "annotations", "street"]
    root: str | None = None
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
    fixes: str | FixesConfig | None = None
    tolerance: Fraction = 0.05
    street: StreetConfig | None = None
    download: DownloadConfig | None = None
    licence: str = ""


class CacheConfig(Settings):
    """The decoded images that all workers and trials of this machine share, in the cache folder.

    Attributes:
        max_gb: of all datasets together; the least recently used go first. A split that does not fit is decoded
            whenever it is read.
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


class LossConfig(Settings):
    """A weighted sum of losses.

    Attributes:
        stride: 1 compares at full resolution; 4 compares logits and mask on every fourth pixel.
        class_weights: of the cross-entropy, by a class's share p of the train pixels: `enet` is 1 / log(1.10 + p)
            (Paszke et al., 2016), `inverse` is 1 / p, `effective` is (1 - b) / (1 - b ** n) with n = p * 1e5 and
            b = 0.9999 (Cui et al., 2019). All are scaled to a mean of 1; the latter two stay below 10 times the least.
    """

    terms: Annotated[dict[LossName, Positive], Field(min_length=1)]
    stride: Literal[1, 4] = 1
    class_weights: Literal["none", "enet", "inverse", "effective"] = "none"
    label_smoothing: Fraction = 0.0


class OptimizerConfig(Settings):
    """The update rule; the learning rate is hp.batch_size * hp.per_item_lrate.

    Attributes:
        fallback_lr_scale: for muon, the AdamW learning rate of norms, biases and the head, as a share of lr.
        ns_steps: for muon, Newton-Schulz iterations.
    """

    name: Literal["adamw", "sgd", "muon"]
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    momentum: Fraction = 0.9
    fallback_lr_scale: Positive = 1.0
    ns_steps: Count = 5


class SchedulerConfig(Settings):
    """Learning rate over the run: linear warm-up over a share of the steps, then the named decay to `final` * lr."""

    name: Literal["constant", "poly", "cosine"]
    warmup: Fraction = 0.05
    power: Positive = 0.9
    final: Fraction = 0.0


class AugmentConfig(Settings):
    """Random geometry and colour; masks follow the geometry exactly (nearest neighbour, no invented ids).

    Attributes:
        scale: range of the random zoom.
        color_jitter: largest relative change of brightness, contrast and saturation.
        crop_size: side of the square training crops in pixels; null takes whole images.
        crop_start: side at which the crops start; they grow to crop_size in steps of 32.
        crop_growth: share of the epochs over which they grow.
    """

    scale: tuple[Positive, Positive] = (1.0, 1.0)
    hflip: Fraction = 0.0
    color_jitter: Fraction = 0.0
    crop_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    crop_start: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    crop_growth: Fraction = 0.6


class TrainerConfig(Settings):
    """Where and how the steps run.

    Attributes:
        precision: `auto` measures bf16 against fp32 on this model and device once, and keeps the answer.
        channels_last: memory format; `auto` is measured together with precision.
        threads: CPU threads; null leaves torch's choice.
        workers: data-loading processes; on a CPU the cache in memory makes 0 the fastest.
        ema_decay: exponential moving average of the weights, which is what is validated and kept; null for none.
        early_stopping: stop after this many validations without a better mIoU; null never.
        val_every: epochs between validations; the last epoch is always validated.
        limit_train_batches: steps per epoch at most, for debugging.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Count = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: Literal["auto", True, False] = "auto"
    compile: bool = False
    threads: Count | None = None
    workers: Annotated[int, Field(ge=0)] = 0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    early_stopping: Count | None = None
    val_every: Count = 1
    gradient_clip: Positive | None = None
    limit_train_batches: Count | None = None


class TrackingConfig(Settings):
    """Where runs are recorded.

    Attributes:
        root: folder of the default store (mlflow.db, artifacts/, runs/, sweeps/).
        uri: an MLflow tracking URI instead of root's sqlite file.
        overlays: validation images drawn with their prediction at the end of a run.
    """

    root: str = "mlruns"
    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1)] = "segtune"
    overlays: Annotated[int, Field(ge=0, le=64)] = 6


class GateConfig(Settings):
    """What a segmenter must show before it becomes champion; a limit of null is not asked for. See `conf/gate/`."""

    split: Annotated[str, Field(min_length=1)] = "test"
    min_gain: float | None = 0.0
    max_class_drop: Annotated[float, Field(ge=0.0)] | None = 0.05
    max_ece: Fraction | None = 0.15
    max_latency_ms: Positive | None = None
    max_size_mb: Positive | None = None
    max_params_m: Positive | None = None
    min_export_agreement: Fraction | None = 0.999
    provenance: bool = True
    untouched: bool = True


class LabelerConfig(Settings):
    """What a labeler tells apart: the finer labels of one class.

    Attributes:
        concept: the class.
        min_area: regions of fewer pixels are neither learned from nor counted.
    """

    concept: Annotated[str, Field(min_length=1)]
    min_area: Count = 16


class RunConfig(Settings):
    """One run: what `segtune train` composes.

    Attributes:
        kind: whether pixels or regions are labelled.
        labeler: for kind=labeler.
    """

    kind: Literal["segmenter", "labeler"] = "segmenter"
    labeler: LabelerConfig | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    template: dict[str, Any]
    dataset: DatasetConfig
    hp: dict[str, Any]
    loss: LossConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    augment: AugmentConfig
    sampling: SamplingConfig = SamplingConfig()
    cache: CacheConfig = CacheConfig()
    trainer: TrainerConfig
    tracking: TrackingConfig
    resume: str | None = None
