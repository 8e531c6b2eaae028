"""Label issues: images whose labels a trained model contradicts most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded, batches_of_one_size, shapes_of
from segtune.data.source.files import digests
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import ConfigError
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.runtime.log import Log, silent
from segtune.runtime.progress import ProgressReporter
from segtune.tracking.recorded import recorded_config
from segtune.tracking.registry import locate
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store, open_store

_BATCH = 8


@dataclass(frozen=True)
class LabelIssue:
    """How much a model contradicts the labels of an image.

    Attributes:
        margin: mean over the counted pixels of p(predicted class) - p(labelled class), in [0, 1].
            It is 0 if the model agrees everywhere, and 1 if it is certain of other classes.
        worst: the labelled class with the largest sum of margins, and the class that the model
            predicts there; None if the model agrees everywhere.
        out_of_fold: the model was trained without the image. Otherwise it may have learned the
            wrong label.
    """

    name: str
    split: str
    margin: float
    worst: tuple[str, str] | None
    out_of_fold: bool
    run: str
    image: Path
    mask: Path


def rank_label_issues(
    config: RunConfig, runs: Sequence[str], say: Log = silent
) -> list[LabelIssue]:
    """Rank all images of train and val by how much a model contradicts their labels.

    Args:
        runs: URIs or ids of runs. A run that was trained without an image is preferred to judge it.

    Raises:
        ConfigError: a run does not exist, or has other classes.
    """
    store, source = open_store(config.tracking), open_source(config.dataset, say)
    issues: dict[tuple[str, str], LabelIssue] = {}
    for run in runs:
        for issue in _issues_of_run(config, run, store, source, say):
            key = issue.split, issue.name
            if key not in issues or (issue.out_of_fold and not issues[key].out_of_fold):
                issues[key] = issue
    return sorted(issues.values(), key=lambda issue: -issue.margin)


def _issues_of_run(
    config: RunConfig, run: str, store: Store, source: Source, say: Log
) -> Iterator[LabelIssue]:
    """Judge each image of train and val by the segmenter of one run."""
    located = locate(run, store)
    segmenter = open_model(located.folder, manifest_hash=located.manifest_hash)
    if not isinstance(segmenter, Segmenter) or segmenter.classes.names != source.classes.names:
        raise ConfigError(
            f"run={run} is no segmenter of the classes {', '.join(source.classes.names)}."
        )
    trained_on = _trained_on(store, located.run_id, source)
    for split in ("train", "val"):
        if split not in source.splits():
            continue
        data = load_split(source, split, segmenter.image_size, True, config.cache, say)
        pairs = source.pairs(split)
        image_digests = digests([pair.image for pair in pairs])
        files = {
            pair.name: (pair, digest) for pair, digest in zip(pairs, image_digests, strict=True)
        }
        for name, margin, worst in _margins(segmenter, data, say):
            pair, digest = files[name]
            is_fresh = digest not in trained_on
            yield LabelIssue(name, split, margin, worst, is_fresh, run, pair.image, pair.mask)


def _trained_on(store: Store, run: str | None, source: Source) -> set[bytes]:
    """Digests of the train images of a run; of this dataset's train split if it recorded none."""
    has_config = run is not None and artifact(store, run, "config.yaml") is not None
    if run and has_config:
        source = open_source(recorded_config(store, run).dataset)
    return set(digests([pair.image for pair in source.pairs("train")]))


def _margins(
    segmenter: Segmenter, data: Decoded, say: Log
) -> Iterator[tuple[str, float, tuple[str, str] | None]]:
    """Name, margin and worst pair of classes of each image, see `LabelIssue`."""
    names, judged = segmenter.classes.names, 0
    with ProgressReporter(say) as progress, torch.inference_mode():
        for batch in batches_of_one_size(data, _BATCH):
            stored, masks = data.read_pairs(batch)
            images = torch.from_numpy(np.stack(stored)).permute(0, 3, 1, 2)
            logits = segmenter.logits(images, images.shape[-2:])
            size = shapes_of(data.masks)[batch[0]]
            # one image at a time: probabilities at the size of the mask take much memory
            for index, mask, image_logits in zip(batch, masks, logits, strict=True):
                resized = F.interpolate(image_logits[None], size=size, mode="bilinear")
                labels = torch.from_numpy(np.array(mask)).long()
                margin, worst = _margin(resized.softmax(1)[0].cpu(), labels)
                pair = None if worst is None else (names[worst[0]], names[worst[1]])
                yield data.names[index], margin, pair
            judged += len(batch)
            progress("images judged", judged, len(data))


def _margin(probabilities: Tensor, labels: Tensor) -> tuple[float, tuple[int, int] | None]:
    """Mean margin of an image, and the (labelled, predicted) classes with the largest sum.

    Args:
        probabilities: (C, H, W).
        labels: (H, W) int64; ids from C on are ignored.
    """
    num_classes = len(probabilities)
    is_counted = labels < num_classes
    valid_labels = labels.clamp(max=num_classes - 1)
    top, predicted = probabilities.max(0)
    difference = top - probabilities.gather(0, valid_labels[None])[0]
    margins = torch.where(is_counted, difference, 0.0)
    pair_ids = (valid_labels * num_classes + predicted).ravel()
    sums = torch.zeros(num_classes**2).index_add_(0, pair_ids, margins.ravel())
    margin = float(margins.sum() / is_counted.sum().clamp(min=1))
    if float(sums.max()) > 0:
        return margin, divmod(int(sums.argmax()), num_classes)
    return margin, None
