"""The schema of a composed config: every key with its type, range, default and meaning.

`segtune config KEY` prints the meanings from the `Attributes` sections.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from segtune.config.dataset_schema import (
    CacheConfig,
    Count,
    DatasetConfig,
    FilePath,
    Fraction,
    SamplingConfig,
    Settings,
)
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.runtime.addresses import move_password

Positive = Annotated[float, Field(gt=0.0)]

PartOptions = dict[str, dict[str, Any]]
"""Name of a registered part -> its options; {} for its defaults."""

# option of the loss -> term that it changes
_TERM_OF = {
    "class_weights": "cross_entropy",
    "label_smoothing": "cross_entropy",
    "ohem_ratio": "cross_entropy",
    "boundary": "cross_entropy",
    "points": "masks",
    "lovasz_stride": "lovasz",
}


class LossConfig(Settings):
    """A weighted sum of losses.

    Attributes:
        terms: loss -> weight: `cross_entropy`, `dice`, `focal`, `lovasz`, `masks`, or a loss of a
            plugin. `masks` cannot be combined with other terms; it is for query-based
            templates and matches their queries to the classes of an image (`models.losses.masks`).
        ohem_ratio: share of the pixels that the cross-entropy counts, those with the largest loss
            (online hard example mining, Shrivastava et al., 2016).
        boundary: additional weight, in the cross-entropy, of pixels that touch another class.
        points: for `masks`, number of points at which each mask is compared.
        label_smoothing: share of the target that the cross-entropy spreads over all classes.
        stride: 1 compares at full resolution; 4 compares logits and mask at every fourth pixel.
        lovasz_stride: the Lovasz term takes every n-th row and column of the compared pixels, from
            a random start; it sorts its pixels once per class.
        class_weights: weights of the cross-entropy, from the share p of each class in the train
            pixels. `enet` is 1 / log(1.10 + p) (Paszke et al., 2016). `inverse` is 1 / p.
            `effective` is (1 - b) / (1 - b ** n) with n = p * 1e5 and b = 0.9999 (Cui et al.,
            2019). The mean weight is 1. The largest weight of `inverse` and `effective` is at most
            10 times the smallest.
        options: loss of a plugin -> its options, as {tversky: {alpha: 0.7}}.
        teacher: a segmenter (models:/NAME@champion, runs:/ID or a folder) whose soft labels are
            learnt, too, at every fourth pixel. It has the dataset's classes, in any order.
        teacher_weight: weight of the teacher's term.
        temperature: by which the logits of both are divided before they are compared.
        teacher_hash: sha256 of the teacher's manifest. segtune records it.
    """

    terms: Annotated[dict[str, Positive], Field(min_length=1)]
    stride: Literal[1, 4] = 1
    class_weights: Literal["none", "enet", "inverse", "effective"] = "none"
    label_smoothing: Fraction = 0.0
    ohem_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    boundary: Annotated[float, Field(ge=0.0)] = 0.0
    points: Count = 12544
    lovasz_stride: Count = 1
    options: PartOptions = {}
    teacher: Annotated[str, Field(min_length=1)] | None = None
    teacher_weight: Positive = 1.0
    temperature: Positive = 2.0
    teacher_hash: str | None = None

    @model_validator(mode="after")
    def _teaches(self) -> "LossConfig":
        if self.teacher is not None and "masks" in self.terms:
            raise ValueError(
                "teacher compares logits, and masks compares queries: take another template than "
                "eomt, or leave the teacher out"
            )
        return self

    @model_validator(mode="after")
    def _stands_alone(self) -> "LossConfig":
        if "masks" in self.terms and len(self.terms) > 1:
            raise ValueError(
                "masks cannot be combined: it compares queries, and the other terms compare pixels"
            )
        return self

    @model_validator(mode="after")
    def _has_effect(self) -> "LossConfig":
        for option, term in _TERM_OF.items():
            value = getattr(self, option)
            if value != type(self).model_fields[option].default and term not in self.terms:
                names = ", ".join(self.terms)
                raise ValueError(
                    f"{option}={value} changes the {term} term, and terms names {names} alone: "
                    f"leave it out, or add {term} to terms"
                )
        return self


class OptimizerConfig(Settings):
    """The update rule. The learning rate is hp.batch_size * hp.per_item_lrate.

    Attributes:
        name: `adamw`, `sgd` (with Nesterov momentum), `muon` (orthogonalised updates of
            matrices), or an optimizer of a plugin.
        weight_decay: share of a weight that one step at learning rate 1 removes.
        momentum: momentum of `sgd` and `muon`.
        fallback_lr_scale: for `muon`, the AdamW learning rate of norms, biases and the head, as a
            fraction of the learning rate.
        ns_steps: for `muon`, the number of Newton-Schulz iterations.
        options: of the optimizer of a plugin.
    """

    name: str
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    momentum: Fraction = 0.9
    fallback_lr_scale: Positive = 1.0
    ns_steps: Count = 5
    options: dict[str, Any] = {}


class TuningConfig(Settings):
    """Which weights are trained, and at which learning rate; see `conf/tuning/`.

    Attributes:
        encoder: `train` trains all weights; `frozen` keeps the pretrained weights; `lora` keeps
            them and trains low-rank updates of the attention.
        encoder_lr: factor on the learning rate of the whole encoder.
        layer_decay: factor on the learning rate from each layer of the encoder to the layer before.
        frozen_epochs: number of first epochs that train only the new head.
        frozen_share: share of the epochs, first, that train only the new head; rounded up.
        norms: `frozen` normalises with the running statistics of the pretrained encoder's batch
            norms, in place of those of each batch. Small batches have poor statistics.
        lora_rank: for `lora`, the rank of the updates.
        lora_alpha: for `lora`, the scale of the updates; they are multiplied by
            lora_alpha / lora_rank.
        cached_views: for `frozen`, the number of augmented views of each image whose features are
            computed once and kept in the cache folder. Every run with the same weights and data
            trains its head on them. 0 computes the features in every step.
    """

    encoder: Literal["train", "frozen", "lora"] = "train"
    encoder_lr: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    frozen_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    norms: Literal["train", "frozen"] = "train"
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 8
    lora_alpha: Positive = 16.0
    cached_views: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _fits(self) -> "TuningConfig":
        if self.cached_views and self.encoder != "frozen":
            raise ValueError(
                f"cached_views={self.cached_views} needs encoder=frozen: the features of any other "
                "encoder change while it learns"
            )
        return self


class SchedulerConfig(Settings):
    """The learning rate over the run: a linear warm-up, then the decay to `final` * lr.

    Attributes:
        name: the decay: `constant`, `poly` ((1 - progress) ** power), `cosine`, or one of a plugin.
        warmup: share of the steps during which the learning rate rises.
        power: exponent of `poly`.
        final: fraction of the learning rate at the end.
        options: of the decay of a plugin.
    """

    name: str
    warmup: Fraction = 0.05
    power: Positive = 0.9
    final: Fraction = 0.0
    options: dict[str, Any] = {}


class AugmentConfig(Settings):
    """Random geometry and colour. Masks follow the geometry by nearest neighbour.

    Attributes:
        scale: range of the random zoom.
        hflip: probability of mirroring an image left to right.
        vflip: probability of mirroring an image top to bottom.
        rotate: largest angle, in degrees, by which a view is turned either way about its centre.
            Pixels that it uncovers are ignored.
        color_jitter: largest relative change of brightness, contrast and saturation.
        sharpness: largest relative change of fine detail; 1 ranges from blurred to twice as strong.
        blur: largest standard deviation of a Gaussian blur, in pixels of the view.
        noise: largest standard deviation of Gaussian noise, in grey levels of 0..255.
        cutout: largest share of the view that one grey rectangle covers.
        cutout_labels: `ignore` ignores the covered pixels; `keep` keeps their labels, so that they
            are learned from the pixels around.
        crop_size: side of the square training crops, in pixels; null takes whole images.
        crop_start: side of the first crops; the crops grow to crop_size in steps of 32.
        crop_growth: share of the epochs during which the crops grow.
        parts: registered augmentations in their order, after all others: name -> options;
            `torchvision` and `albumentations` take a list of those libraries' transforms, others
            are of plugins.
    """

    scale: tuple[Positive, Positive] = (1.0, 1.0)
    hflip: Fraction = 0.0
    vflip: Fraction = 0.0
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    color_jitter: Fraction = 0.0
    sharpness: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    blur: Annotated[float, Field(ge=0.0, le=20.0)] = 0.0
    noise: Annotated[float, Field(ge=0.0, le=128.0)] = 0.0
    cutout: Annotated[float, Field(ge=0.0, le=0.9)] = 0.0
    cutout_labels: Literal["ignore", "keep"] = "ignore"
    crop_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    crop_start: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    crop_growth: Fraction = 0.6
    parts: PartOptions = {}


class TrainerConfig(Settings):
    """Device, precision, and the length of a training.

    Attributes:
        accelerator: `auto` takes a GPU if there is one.
        devices: number of GPUs of one training (with accelerator=cpu, of processes).
        strategy: `ddp` trains on several devices. Each takes an equal share of hp.batch_size, so
            that learning rate, updates and schedule are those of one device.
        compile: compile the training step with torch.compile.
        gradient_clip: largest norm of the gradient; null for no limit.
        precision: `auto` measures bf16 against fp32 once for this model and device, and remembers
            the answer.
        channels_last: memory format; `auto` measures it together with the precision.
        threads: CPU threads; null leaves the choice to torch.
        workers: processes that prepare batches. `auto` is 0 on a CPU, where the cache in memory is
            fastest without them. On a GPU it is the number of threads minus 1 (of cores if threads
            is null), and at most 8. Fewer start if the shared memory has no room for their batches.
        deterministic: on a GPU, use only operations that give the same bits each time, where such
            operations exist. On a CPU all operations do.
        ema_decay: decay of the exponential moving average of the weights; null for none. Validation
            and the saved model use the averaged weights. The decay starts at 0 and rises to this
            value: it reaches 0.9 at step 47 and 0.99 at step 2,155.
        early_stopping: stop after so many validations without a better mIoU; null for never.
        val_every: epochs from one validation to the next; the last epoch is always validated.
        limit_train_batches: largest number of updates in an epoch, for debugging.
        minutes: train as many epochs as fit into this time on this machine, in place of
            hp.num_epochs. The steps are timed first.
        class_offsets: at the end, add to the logits of each class the offset that raises mIoU on
            train images; see `models.offsets`. Query-based models and labelers ignore it.
        accumulate: number of parts into which a batch is split (gradient accumulation). The number
            of updates, the schedule and the learning rate stay the same. `auto` takes the fewest
            parts that fit into memory.
        callbacks: Lightning callbacks of plugins: name -> options.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Count = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: Literal["auto", True, False] = "auto"
    compile: bool = False
    deterministic: bool = False
    threads: Count | None = None
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    early_stopping: Count | None = None
    val_every: Count = 1
    gradient_clip: Positive | None = None
    limit_train_batches: Count | None = None
    minutes: Positive | None = None
    class_offsets: bool = True
    accumulate: Literal["auto"] | Count = 1
    callbacks: PartOptions = {}


class TrackingConfig(Settings):
    """The store of runs.

    Attributes:
        root: folder of the default store (mlflow.db, artifacts/, runs/, sweeps/).
        experiment: MLflow experiment of the runs.
        uri: address of an MLflow server, in place of the sqlite file under root. A password in it
            is recorded nowhere; the variable MLFLOW_TRACKING_PASSWORD may give it instead.
        overlays: number of validation images that are drawn with their prediction after a run.
        system_metrics: log the load of CPU, memory, disk and GPU every ten seconds of a training.
        git_diff: record the uncommitted changes of tracked files with each run. Untracked files
            are never recorded.
        loggers: further loggers, beside MLflow: `tensorboard`, `wandb`, or one of a plugin, each
            with its options, as {tensorboard: {}}.
    """

    root: FilePath = ROOT
    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1)] = EXPERIMENT
    overlays: Annotated[int, Field(ge=0, le=64)] = 6
    system_metrics: bool = False
    git_diff: bool = True
    loggers: PartOptions = {}

    @field_validator("uri")
    @classmethod
    def _keep_no_password(cls, value: str | None) -> str | None:
        return None if value is None else move_password(value)


class GateConfig(Settings):
    """Rules that a segmenter must pass to become champion; null turns a limit off.

    Attributes:
        split: the rules read the evidence of this split. `auto` is test, or val for a dataset
            without a test split.
        min_gain: smallest lower end of the 95 % interval of the mIoU difference to the champion.
        max_class_drop: largest drop of the IoU of a class below that of the champion.
        max_ece: largest expected calibration error.
        max_latency_ms: largest median latency of single images, on the device that measured it.
        max_size_mb: largest size of the weights.
        max_params_m: largest number of parameters, in millions.
        min_export_agreement: smallest share of pixels on which an export equals the original; only
            for segmenters that have an export.
        provenance: require dataset fingerprints and the code version on record.
        untouched: require that only versions of this model were measured on the split before.
        metrics: metric, as `iou/road` or one of a plugin -> the least that passes; the most for a
            metric of which less is better.
    """

    split: Annotated[str, Field(min_length=1)] = "auto"
    min_gain: float | None = 0.0
    max_class_drop: Annotated[float, Field(ge=0.0)] | None = 0.05
    max_ece: Fraction | None = 0.15
    max_latency_ms: Positive | None = None
    max_size_mb: Positive | None = None
    max_params_m: Positive | None = None
    min_export_agreement: Fraction | None = 0.999
    provenance: bool = True
    untouched: bool = True
    metrics: dict[str, float] = {}


class LabelerConfig(Settings):
    """The class whose regions a labeler labels with finer labels.

    Attributes:
        concept: name of the class.
        min_area: smaller regions, in pixels, are neither trained on nor counted.
    """

    concept: Annotated[str, Field(min_length=1)]
    min_area: Count = 16


class RunConfig(Settings):
    """One run, as `segtune train` composes it.

    Attributes:
        kind: `segmenter` labels pixels; `labeler` labels regions.
        labeler: for kind=labeler.
        seed: seed of weights, batches and augmentations.
        template: architecture with its declared hyperparameters; template=NAME chooses one.
        hp: hyperparameters of the template; segtune templates NAME shows them.
        resume: id of the run to continue from its last checkpoint.
        plugins: part -> name, version, sha256 and source of the plugin that gave it. segtune
            records it; nothing is loaded from it.
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
    tuning: TuningConfig = TuningConfig()
    augment: AugmentConfig
    sampling: SamplingConfig = SamplingConfig()
    cache: CacheConfig = CacheConfig()
    trainer: TrainerConfig
    tracking: TrackingConfig
    resume: str | None = None
    plugins: dict[str, dict[str, str | None]] = {}

    @model_validator(mode="after")
    def _labels_all(self) -> "RunConfig":
        if self.dataset.unlabelled is not None and self.loss.teacher is None:
            raise ValueError(
                f"dataset.unlabelled={self.dataset.unlabelled} has images without labels, and only "
                "a teacher can label them: add loss.teacher=models:/NAME@champion, a run or a "
                "folder of a segmenter"
            )
        return self
