"""The end of a training: the best weights become a segmenter, which is measured and saved."""

from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import load_file

from segtune.data.batches.decoded import spread_evenly
from segtune.errors import DataError
from segtune.evaluation.evaluate import measure_split, save_evidence, with_segmenter_hash
from segtune.inference.labeler import RegionLabeler
from segtune.inference.media.pixel_size import common_metres
from segtune.inference.segmenter import Segmenter
from segtune.models.offsets import MAX_IMAGES, class_bias
from segtune.runtime.retry import with_backoff
from segtune.tracking.names import file_name
from segtune.training.active_run import ActiveRun
from segtune.training.components import RunComponents
from segtune.training.epochs import TrainedEpochs
from segtune.training.result import RunResult

_SEGMENTER = "segmenter"


def save_best_segmenter(run: ActiveRun, training: TrainedEpochs) -> RunResult:
    """Measure the best weights as the segmenter that inference loads, and save it with the run."""
    components = run.components
    config = components.config
    segmenter = _load_best(components, training)
    with run.stop.at_once():
        offsets = _add_class_offsets(run, segmenter)
        run.say(f"measuring: {len(components.val)} val images")
        evidence = measure_split(
            components.task, segmenter, components.source, "val", components.val
        )
    if offsets:
        _record_offsets(run, offsets)
    metrics, cost = evidence.metrics("val/"), evidence.origin.cost
    segmenter.describe(config.template, _dataset_facts(components), metrics, config.plugins)
    overlays = min(config.tracking.overlays, len(components.val))
    run.say(f"saving: segmenter, evidence and {overlays} overlays")
    run.hooks.check_lease()
    folder = run.folder / _SEGMENTER
    digest = with_backoff(lambda: segmenter.save(folder))
    run.writer.folder_artifact(folder, _SEGMENTER)
    save_evidence(run.writer, with_segmenter_hash(evidence, folder), components.val)
    chosen = spread_evenly(len(components.val), config.tracking.overlays)
    for name, pixels in components.task.overlays(segmenter, components.val, chosen).items():
        run.writer.image(f"overlays/{file_name(name)}.png", pixels)
    result = run.result("finished", metrics, cost, folder)
    _record_best(run, result, training.best_epoch)
    run.writer.tags({"segtune.manifest_sha256": digest})
    return result


def _load_best(components: RunComponents, training: TrainedEpochs) -> Segmenter | RegionLabeler:
    config, classes = components.config, components.classes
    model = components.task.build(config.template["model"], len(classes))
    model.load_state_dict(load_file(training.best))
    return components.task.inference_model(
        model, classes, config.hp["image_size"], components.device
    )


def _add_class_offsets(
    run: ActiveRun, segmenter: Segmenter | RegionLabeler
) -> Sequence[float] | None:
    """Add the offsets to the class logits that raise the mIoU on train images; return them."""
    components = run.components
    if not components.config.trainer.class_offsets or class_bias(segmenter.model) is None:
        return None
    run.say(f"class offsets: looking at {min(MAX_IMAGES, len(components.train))} train images")
    return components.task.offset_classes(segmenter, components.source, components.train)


def _record_offsets(run: ActiveRun, offsets: Sequence[float]) -> None:
    by_class = dict(zip(run.components.classes.names, offsets, strict=True))
    run.writer.data("class_offsets.json", by_class)
    largest = sorted(by_class, key=lambda name: -abs(by_class[name]))[:3]
    listed = ", ".join(f"{name} {by_class[name]:+.2f}" for name in largest)
    more = ", …" if len(by_class) > len(largest) else ""
    run.say(f"class offsets found on train images: {listed}{more} (class_offsets.json)")


def _record_best(run: ActiveRun, result: RunResult, best_epoch: int) -> None:
    metrics: dict[str, float] = {"best/epoch": best_epoch, "seconds": result.seconds}
    metrics |= {f"best/{name}": value for name, value in result.metrics.items()}
    metrics |= {f"cost/{name}": value for name, value in result.cost.items()}
    run.record_metrics(metrics, run.components.num_epochs)


def _dataset_facts(components: RunComponents) -> Mapping[str, Any]:
    """The dataset as the segmenter records it; `metres` is the size of a pixel, if it is known."""
    facts: dict[str, Any] = {
        **components.source.reading.to_json(),
        "name": components.source.name,
        "train": components.train.fingerprint,
        "val": components.val.fingerprint,
    }
    try:
        images = [pair.image for pair in components.source.pairs("train")]
        metres = common_metres(images, components.config.hp["image_size"])
    except DataError:  # the files are gone; their decoded pixels were enough to train
        return facts
    return facts | {"metres": metres} if metres else facts
