"""Merge segmenters that differ in their seed: the mean of their weights, or of their logits."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from segtune.config.schema import RunConfig, TuningConfig
from segtune.data.batches.decoded import Decoded, batches_of_one_size, spread_evenly
from segtune.errors import ConfigError
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.models.ensemble import Ensemble
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.tuning import freeze_encoder, keep_statistics
from segtune.tracking.recorded import recorded_config
from segtune.tracking.registry import locate
from segtune.tracking.runs import RunRecord, get_run
from segtune.tracking.store import Store

_STATISTICS_IMAGES = 256  # train images from which batch norms take new statistics
_BATCH = 8


@dataclass(frozen=True)
class Member:
    """One of the merged segmenters."""

    run: RunRecord
    config: RunConfig
    segmenter: Segmenter


def open_members(store: Store, names: Sequence[str]) -> list[Member]:
    """Open the segmenters of runs or registered versions, and check that they can be merged.

    Raises:
        ConfigError: fewer than two, one twice, no segmenter, or runs that differ in more than their
            seed and weights.
    """
    members = []
    for name in names:
        located = locate(name, store)
        if located.run_id is None:
            raise ConfigError(f"'{name}' is a folder; name the run or the registered version.")
        segmenter = open_model(located.folder, manifest_hash=located.manifest_hash)
        if not isinstance(segmenter, Segmenter):
            raise ConfigError(f"'{name}' is a {segmenter.KIND}; only segmenters can be merged.")
        run = get_run(store, located.run_id)
        members.append(Member(run, recorded_config(store, run.id), segmenter))
    ids = [member.run.id for member in members]
    if len(set(ids)) < 2 or len(set(ids)) < len(ids):
        raise ConfigError(
            f"merge needs two or more different runs, found {', '.join(ids) or 'none'}. Train one "
            "configuration with several seeds: segtune train … seed=0, seed=1, seed=2."
        )
    _refuse_unlike(members)
    return members


def _refuse_unlike(members: Sequence[Member]) -> None:
    """Refuse runs that differ in more than their seed and weights."""
    first = members[0]
    for member in members[1:]:
        pairs = zip(_facts(first), _facts(member), strict=True)
        differences = []
        for (what, expected), (_, found) in pairs:
            if expected != found:
                differences.append(f"{what} ({expected} and {found})")
        if differences:
            raise ConfigError(
                f"runs {first.run.id} and {member.run.id} cannot be merged; they differ in "
                f"{'; '.join(differences)}. Merge seeds of one configuration, trained and "
                "measured on the same images."
            )


def _facts(member: Member) -> Iterator[tuple[str, Any]]:
    """What all members have in common, in words."""
    info = member.segmenter.info
    dataset = info.get("dataset", {})
    yield "template", info["template"]
    yield "classes", ", ".join(member.segmenter.classes.names)
    yield "hp.image_size", member.segmenter.image_size
    model = dict(info["model"])
    for key in sorted(model):
        yield f"model.{key}", model[key]
    yield "preprocessing", info["preprocessing"]
    yield "tuning", member.config.tuning.model_dump()
    for split in ("train", "val"):
        yield f"{split} images", str(dataset.get(split))[:12]


def averaged(members: Sequence[Member], train: Decoded) -> Segmenter:
    """A segmenter with the mean of all weights (Wortsman et al., 2022, arXiv 2203.05482).

    Batch norms take new statistics from train images, since those of other weights do not fit.
    """
    first = members[0].segmenter
    model = copy.deepcopy(first.model)
    states = [member.segmenter.model.state_dict() for member in members]
    mean: dict[str, Tensor] = {}
    for key, tensor in states[0].items():
        mean[key] = tensor
        if tensor.is_floating_point():
            mean[key] = torch.stack([state[key].float() for state in states]).mean(0).to(tensor)
    model.load_state_dict(mean)
    _renew_statistics(model.to(first.device), members[0].config.tuning, _images(train))
    return Segmenter(model.eval(), first.classes, first.image_size, {}, first.device)


def _renew_statistics(
    model: SegmentationModel, tuning: TuningConfig, batches: Sequence[Tensor]
) -> None:
    """Take new statistics in the batch norms that learned theirs; frozen ones keep them."""
    freeze_encoder(model, tuning.encoder != "train")
    model.train()
    keep_statistics(tuning, model)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    device = next(model.parameters()).device
    with torch.no_grad():
        for images in batches if norms else ():
            model(images.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    freeze_encoder(model, False)


def ensemble(members: Sequence[Member]) -> Segmenter:
    """A segmenter that averages the logits of all members; it costs as much as all of them."""
    first = members[0].segmenter
    nets = [copy.deepcopy(member.segmenter.model.net) for member in members]
    model = SegmentationModel(Ensemble(nets), first.model.preprocessing)
    return Segmenter(model, first.classes, first.image_size, {}, first.device)


def ensemble_section(members: Sequence[Member]) -> dict[str, Any]:
    """The `model` section that builds the ensemble."""
    member = dict(members[0].segmenter.info["model"])
    return {"architecture": "Ensemble", "member": member, "count": len(members)}


def _images(train: Decoded) -> list[Tensor]:
    """Batches (B, 3, H, W) of train images, at the size of the model."""
    chosen = spread_evenly(len(train), _STATISTICS_IMAGES)
    split = Decoded(
        tuple(train.names[i] for i in chosen),
        [train.images[i] for i in chosen],
        [train.masks[i] for i in chosen],
        train.fingerprint,
    )
    batches = []
    for rows in batches_of_one_size(split, _BATCH):
        if len(rows) == 1:
            rows = [*rows, *rows]  # one image of 1 x 1 pixels in depth has no statistics
        stack = np.stack([split.images[row] for row in rows])
        batches.append(torch.from_numpy(stack).permute(0, 3, 1, 2))
    return batches
