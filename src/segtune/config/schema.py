"""The shape of a composed config: every key, its type and its range. Python owns the defaults that nobody changes."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segtune.config.dataset_schema import (
    CacheConfig,
    Count,
    DatasetConfig,
    FilePath,
    Fraction,
    SamplingConfig,
    Settings,
)

Positive = Annotated[float, Field(gt=0.0)]

LossName = Literal["cross_entropy", "dice", "focal", "lovasz", "masks"]


# what an option of the loss changes
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
        terms: loss -> its weight. `masks` matches the queries of a query-based template to the classes of each image
            (`models.mask_loss`) and stands alone.
        ohem_ratio: share of the pixels that the cross-entropy counts: those where it is largest (online hard example
            mining, Shrivastava et al., 2016).
        boundary: further weight, in the cross-entropy, of pixels that touch another class.
        points: for `masks`, places per mask at which it is compared.
        label_smoothing: share of the target that the cross-entropy spreads over all classes.
        stride: 1 compares at full resolution; 4 compares logits and mask on every fourth pixel.
        lovasz_stride: the Lovasz term, which sorts all pixels once per class, takes every n-th row and column of
            those, from a random first one.
        class_weights: of the cross-entropy, by a class's share p of the train pixels: `enet` is 1 / log(1.10 + p)
            (Paszke et al., 2016), `inverse` is 1 / p, `effective` is (1 - b) / (1 - b ** n) with n = p * 1e5 and
            b = 0.9999 (Cui et al., 2019). All are scaled to a mean of 1; the latter two stay below 10 times the least.
    """

    terms: Annotated[dict[LossName, Positive], Field(min_length=1)]
    stride: Literal[1, 4] = 1
    class_weights: Literal["none", "enet", "inverse", "effective"] = "none"
    label_smoothing: Fraction = 0.0
    ohem_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    boundary: Annotated[float, Field(ge=0.0)] = 0.0
    points: Count = 12544
    lovasz_stride: Count = 1

    @model_validator(mode="after")
    def _stands_alone(self) -> "LossConfig":
        if "masks" in self.terms and len(self.terms) > 1:
            raise ValueError("masks stands alone: it compares queries, the other terms pixels")
        return self

    @model_validator(mode="after")
    def _has_effect(self) -> "LossConfig":
        for option, term in _TERM_OF.items():
            value = getattr(self, option)
            if value != type(self).model_fields[option].default and term not in self.terms:
                raise ValueError(
                    f"{option}={value} changes the {term} term, and terms names {', '.join(self.terms)} alone: "
                    f"leave it out, or add {term} to terms"
                )
        return self


class OptimizerConfig(Settings):
    """The update rule; the learning rate is hp.batch_size * hp.per_item_lrate.

    Attributes:
        name: `adamw`, `sgd` (with Nesterov momentum), or `muon` (orthogonalised updates of matrices).
        weight_decay: share of a weight that a step of learning rate 1 takes away.
        momentum: of sgd and muon.
        fallback_lr_scale: for muon, the AdamW learning rate of norms, biases and the head, as a share of lr.
        ns_steps: for muon, Newton-Schulz iterations.
    """

    name: Literal["adamw", "sgd", "muon"]
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    momentum: Fraction = 0.9
    fallback_lr_scale: Positive = 1.0
    ns_steps: Count = 5


class TuningConfig(Settings):
    """What of the model is trained, and how fast; see `conf/tuning/`.

    Attributes:
        encoder: `train`; `frozen` as its pretrained weights are; or `lora`: frozen, with low-rank updates on attention.
        layer_decay: factor on the learning rate from each layer of the encoder to the one before it.
        frozen_epochs: for which the encoder stands still at first, while the new head finds its place.
        lora_rank: of the updates, for `lora`.
        lora_alpha: the updates are scaled by lora_alpha / lora_rank.
        cached_views: for `frozen`, so many augmented views of each image are encoded once and kept in the cache
            folder; every run on the same weights and data trains its head on those. 0 encodes anew each time.
    """

    encoder: Literal["train", "frozen", "lora"] = "train"
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 8
    lora_alpha: Positive = 16.0
    cached_views: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _fits(self) -> "TuningConfig":
        if self.cached_views and self.encoder != "frozen":
            raise ValueError(
                f"cached_views={self.cached_views} needs encoder=frozen: other features change as it learns"
            )
        return self


class SchedulerConfig(Settings):
    """Learning rate over the run: linear warm-up over a share of the steps, then the named decay to `final` * lr.

    Attributes:
        name: of the decay: `constant`, `poly` ((1 - progress) ** power) or `cosine`.
        warmup: share of the steps.
        power: of `poly`.
        final: share of the learning rate that is left at the end.
    """

    name: Literal["constant", "poly", "cosine"]
    warmup: Fraction = 0.05
    power: Positive = 0.9
    final: Fraction = 0.0


class AugmentConfig(Settings):
    """Random geometry and colour; masks follow the geometry exactly (nearest neighbour, no invented ids).

    Attributes:
        scale: range of the random zoom.
        hflip: probability of a mirrored image.
        color_jitter: largest relative change of brightness, contrast and saturation.
        sharpness: largest relative change of fine detail: at 1, from blurred away to twice as strong.
        crop_size: side of the square training crops in pixels; null takes whole images.
        crop_start: side at which the crops start; they grow to crop_size in steps of 32.
        crop_growth: share of the epochs over which they grow.
    """

    scale: tuple[Positive, Positive] = (1.0, 1.0)
    hflip: Fraction = 0.0
    color_jitter: Fraction = 0.0
    sharpness: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    crop_size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    crop_start: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    crop_growth: Fraction = 0.6


class TrainerConfig(Settings):
    """Where and how the steps run.

    Attributes:
        accelerator: `auto` takes a GPU where there is one.
        devices: GPUs of one training.
        strategy: `ddp` trains on several devices, each with its share of the batch.
        compile: whether torch.compile makes the step.
        gradient_clip: largest norm of the gradient; null for no limit.
        precision: `auto` measures bf16 against fp32 on this model and device once, and keeps the answer.
        channels_last: memory format; `auto` is measured together with precision.
        threads: CPU threads; null leaves torch's choice.
        workers: processes that make batches ahead. `auto`: none on a CPU, where the cache in memory makes that the
            fastest; on a GPU one less than there are threads, or cores where none are given, at most eight.
        deterministic: on a GPU, only operations that give the same bits each time, where there are such; on a CPU
            all do.
        ema_decay: of the exponential moving average of the weights, which is what is validated and kept; null for none.
            The decay starts at 0 and rises to this: 0.9 is reached at step 47, 0.99 at 2,155.
        early_stopping: stop after this many validations without a better mIoU; null never.
        val_every: epochs between validations; the last epoch is always validated.
        limit_train_batches: updates per epoch at most, for debugging.
        minutes: as many epochs as fit into this time here, in place of hp.num_epochs; the steps are timed first.
        class_offsets: at the end, add to each class's logits what raises mIoU on train images; see `models.offsets`. A
            query-based model has no place for it, a labeler does not ask for it.
        accumulate: parts into which a batch is split, their gradients summed to that of the whole batch; the updates,
            the schedule and the learning rate stay. `auto` takes the fewest parts that fit into memory.
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


class TrackingConfig(Settings):
    """Where runs are recorded.

    Attributes:
        root: folder of the default store (mlflow.db, artifacts/, runs/, sweeps/).
        experiment: of MLflow, in which the runs stand.
        uri: an MLflow tracking URI instead of root's sqlite file.
        overlays: validation images drawn with their prediction at the end of a run.
        system_metrics: log the load of processor, memory, disk and GPU, every ten seconds of the training.
    """

    root: FilePath = "mlruns"
    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1)] = "segtune"
    overlays: Annotated[int, Field(ge=0, le=64)] = 6
    system_metrics: bool = False


class GateConfig(Settings):
    """What a segmenter must show before it becomes champion; a limit of null is not asked for. See `conf/gate/`.

    Attributes:
        split: whose evidence the rules read. `auto` is test, and val where the dataset has no test split.
        min_gain: lower end of the 95 % interval of the mIoU difference to the champion.
        max_class_drop: by which the IoU of any class may fall below the champion's.
        max_ece: expected calibration error.
        max_latency_ms: median of single images, on the device that measured.
        max_size_mb: of the weights.
        max_params_m: parameters, in millions.
        min_export_agreement: share of pixels on which an export equals the original, where an export exists.
        provenance: whether dataset fingerprints and code version must be on record.
        untouched: whether nobody but this model's own versions may have been measured on the split before.
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
        seed: of weights, batches and augmentations.
        template: the architecture with the hyperparameters that it declares; template=NAME chooses one.
        hp: the hyperparameters of the template; segtune templates NAME shows them.
        resume: id of a run that goes on from its last checkpoint.
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
