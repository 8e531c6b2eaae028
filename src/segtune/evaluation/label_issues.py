"""Label noise: the images whose truth a trained model disputes most, out of fold where folds exist."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded, batches_of_one_size, shapes_of
from segtune.data.source.files import digests
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import ConfigError
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.runtime.log import Log
from segtune.runtime.progress import ProgressReporter
from segtune.tracking.recorded import recorded_config
from segtune.tracking.registry import locate
from segtune.tracking.runs import artifact
from segtune.tracking.store import Store, open_store


@dataclass(frozen=True)
class Dispute:
    """How far a model and the truth of an image are apart.

    Attributes:
        margin: mean over the counted pixels of how much more probable the model holds its own class than the true one,
            0 where they agree everywhere, 1 where it is certain of another class everywhere.
        worst: the true class that is disputed most, and the class that the model sees there.
        out_of_fold: whether the model was trained without the image; else it may have learned the mistake.
    """

    name: str
    split: str
    margin: float
    worst: tuple[str, str] | None
    out_of_fold: bool
    run: str
    image: Path
    mask: Path


def rank_disputes(
    config: RunConfig, runs: Sequence[str], say: Log = lambda _: None
) -> list[Dispute]:
    """All images of train and val, the most disputed first.

    Args:
        runs: URIs or ids; of several, each image is judged by one that was trained without it, where there is one.

    Raises:
        ConfigError: no such run, or one of other classes.
    """
    store, source = open_store(config.tracking), open_source(config.dataset, say)
    splits = [s for s in ("train", "val") if s in source.splits()]
    found: dict[tuple[str, str], Dispute] = {}
    for run in runs:
        located = locate(run, store)
        segmenter = open_model(located.folder, manifest_hash=located.manifest_hash)
        if not isinstance(segmenter, Segmenter) or segmenter.classes.names != source.classes.names:
            raise ConfigError(
                f"run={run} is no segmenter of the classes {', '.join(source.classes.names)}."
            )
        learned = _trained_on(store, located.run_id, source)
        for split in splits:
            data = load_split(source, split, segmenter.image_size, True, config.cache, say)
            pairs = source.pairs(split)
            files = {
                p.name: (p, d not in learned)
                for p, d in zip(pairs, digests([p.image for p in pairs]), strict=True)
            }
            for name, margin, worst in _margins(segmenter, data, say):
                pair, fresh = files[name]
                row = Dispute(name, split, margin, worst, fresh, run, pair.image, pair.mask)
                old = found.get((split, name))
                if old is None or (row.out_of_fold and not old.out_of_fold):
                    found[split, name] = row
    return sorted(found.values(), key=lambda d: -d.margin)


def _trained_on(store: Store, run: str | None, source: Source) -> set[bytes]:
    """Digests of the images that a run was trained on; without a record, of this dataset's train split."""
    has_recorded = run is not None and artifact(store, run, "config.yaml") is not None
    theirs = open_source(recorded_config(store, run).dataset) if run and has_recorded else source
    return set(digests([p.image for p in theirs.pairs("train")]))


def _margins(
    segmenter: Segmenter, data: Decoded, say: Log
) -> Iterator[tuple[str, float, tuple[str, str] | None]]:
    names = segmenter.classes.names
    with ProgressReporter(say) as pace, torch.inference_mode():
        done = 0
        for batch in batches_of_one_size(data, 8):
            images = torch.from_numpy(np.stack([data.images[i] for i in batch])).permute(0, 3, 1, 2)
            logits, size = (
                segmenter.logits(images, images.shape[-2:]),
                shapes_of(data.masks)[batch[0]],
            )
            for index, one in zip(batch, logits, strict=True):  # those of one whole mask at a time
                chance = F.interpolate(one[None], size=size, mode="bilinear").softmax(1)[0].cpu()
                truth = torch.from_numpy(np.array(data.masks[index])).long()
                counted = truth < len(names)
                top, seen = chance.max(0)
                gap = torch.where(
                    counted, top - chance.gather(0, truth.clamp(max=len(names) - 1)[None])[0], 0.0
                )
                margin = float(gap.sum() / counted.sum().clamp(min=1))
                sums = torch.zeros(len(names) ** 2).index_add_(
                    0, (truth.clamp(max=len(names) - 1) * len(names) + seen).ravel(), gap.ravel()
                )
                pair = divmod(int(sums.argmax()), len(names)) if float(sums.max()) > 0 else None
                yield data.names[index], margin, (names[pair[0]], names[pair[1]]) if pair else None
            done += len(batch)
            pace("images judged", done, len(data))
