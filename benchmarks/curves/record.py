"""Record learning curves once, so that search policies can be judged on them in seconds.

    python -m benchmarks.curves.record [--sets street camvid] [--configurations 40] [--seeds 2]
        [--minutes 60]

Each sweep file in this folder draws 100 configurations with a fixed seed; number 0 is the default.
Each curve comes from the training that a trial runs, without the last measurement and saving. A
finished curve is written at once, and the same command continues. CamVid needs SEGTUNE_DATA; a
small copy of it is made first.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import optuna
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

import segtune
from benchmarks.curves.curve_table import EPOCHS, FOLDER, MATRIX_EPOCHS, Curve, CurveTable
from segtune.classes import IGNORE_INDEX
from segtune.config.compose import compose
from segtune.errors import Diverged
from segtune.measure.metrics import count_pairs
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import load_spec
from segtune.training.fit import fit
from segtune.training.request import RunHooks

DRAWN = 100


class ValRecorder(pl.Callback):
    """Records the val loss of each epoch, and each val image's matrix at three of them."""

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.matrices: list[list[Tensor]] = []
        self._logits: list[Tensor] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sum, self._pixels = 0.0, 0
        self._keeps = trainer.current_epoch + 1 in MATRIX_EPOCHS
        if self._keeps:
            self.matrices.append([])
        self._hook = pl_module.averaged.register_forward_hook(
            lambda module, images, logits: self._logits.append(logits)
        )

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Mapping[str, Tensor],
        *position: int,
    ) -> None:
        logits = self._logits.pop().float()
        # stored masks may be larger than the images: count at the size of the logits
        mask = F.interpolate(batch["mask"][:, None], logits.shape[-2:])[:, 0]
        self._sum += float(
            F.cross_entropy(logits, mask.long(), ignore_index=IGNORE_INDEX, reduction="sum")
        )
        self._pixels += int((mask != IGNORE_INDEX).sum())
        if self._keeps:
            classes = logits.shape[1]
            for prediction, target in zip(logits.max(1).indices, mask, strict=True):
                self.matrices[-1].append(count_pairs(prediction[None], target[None], classes))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hook.remove()
        self.loss.append(self._sum / self._pixels)


def small_camvid(root: Path) -> None:
    """Copy every twelfth train and every fifth val image of CamVid to 96x128 pixels."""
    original = Path(compose(["dataset=camvid"]).config.dataset.root)
    for split, step in (("train", 12), ("val", 5)):
        for path in sorted((original / "images" / split).glob("*.png"))[::step]:
            mask = cv2.imread(str(original / "masks" / split / path.name), cv2.IMREAD_UNCHANGED)
            image = cv2.resize(cv2.imread(str(path)), (128, 96), interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, (128, 96), interpolation=cv2.INTER_NEAREST)
            for kind, pixels in (("images", image), ("masks", mask)):
                target = root / kind / split / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(target), pixels)


class Current:
    """The recorder of the curve that is being trained: a callback of the config finds it here."""

    recorder = ValRecorder()


def val_recorder() -> ValRecorder:
    """Return the recorder of the curve that is being trained."""
    return Current.recorder


def draw(space: Space) -> list[tuple[dict[str, Any], list[str]]]:
    """Draw the configurations of a sweep file as (params, overrides); the default is the first."""
    default = space.enqueued[0]
    drawn = [(dict(default), space.overrides_of(default))]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=37))
    while len(drawn) < DRAWN:
        trial = study.ask()
        overrides = space.propose(trial)
        params = {d.param: d.from_param(trial.params[d.param]) for d in space.dimensions}
        drawn.append((params, overrides))
    return drawn


def train(overrides: list[str], seed: int) -> Curve:
    """Train one configuration as a trial does, and return its curve."""
    Current.recorder = ValRecorder()
    miou: list[float] = []
    ends = []

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        miou.append(metrics["val/miou"])
        ends.append(time.process_time())
        return epoch + 1 == EPOCHS  # ends before the segmenter is measured and saved

    segtune.register("callback", "val_recorder")(val_recorder)
    with TemporaryDirectory() as root:
        words = [f"seed={seed}", "trainer.callbacks={val_recorder:{}}", f"tracking.root={root}"]
        config = compose_trial([*overrides, *words], 1)
        start: list[float] = []
        hooks = RunHooks(on_start=lambda run: start.append(time.process_time()), on_epoch=on_epoch)
        try:
            fit(config, hooks=hooks)
        except Diverged as error:
            print(f"  {error}", flush=True)
    return _curve(Current.recorder, miou, np.diff([*start, *ends]))


def _curve(recorder: ValRecorder, miou: list[float], seconds: Any) -> Curve:
    """Return the record; the epochs after a divergence are nan, and their matrices 0."""

    def padded(values: Any) -> Any:
        full = np.full(EPOCHS, np.nan, np.float32)
        full[: len(values)] = values
        return full

    kept = [torch.stack(images).numpy() for images in recorder.matrices if images]
    shape = kept[0].shape if kept else (0, 0, 0)
    matrices = np.zeros((len(MATRIX_EPOCHS), *shape), np.uint16)
    for position, counts in enumerate(kept):
        assert counts.max() < 2**16
        matrices[position] = counts
    return Curve(padded(miou), padded(recorder.loss[: len(miou)]), padded(seconds), matrices)


def main() -> None:
    """Train the curves that are missing, until the time is over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=["street", "camvid"])
    parser.add_argument("--configurations", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as root:
        if "camvid" in options.sets:
            small_camvid(Path(root))
        record(options, Path(root), time.monotonic() + 60 * options.minutes)


def record(options: argparse.Namespace, camvid: Path, until: float) -> None:
    """Train one curve after the other; `until` is on the monotonic clock."""
    tables, drawn = {}, {}
    for name in options.sets:
        drawn[name] = draw(build_space(load_spec(str(FOLDER / f"{name}.yaml"))))
        tables[name] = open_table(name, [params for params, _ in drawn[name]])
    places = {"camvid": [f"dataset.root={camvid}"]}
    for seed in range(options.seeds):
        for number in range(options.configurations):
            for name, table in tables.items():
                if (number, seed) in table.curves:
                    continue
                if time.monotonic() > until:
                    print("out of time; the same command continues")
                    return
                started = time.monotonic()
                overrides = [*drawn[name][number][1], *places.get(name, [])]
                table.curves[number, seed] = train(overrides, seed)
                table.save()
                final = table.curves[number, seed].miou[-1]
                took = time.monotonic() - started
                print(f"{name} {number} seed {seed}: {final:.3f}, {took:.1f} s", flush=True)


def open_table(name: str, configurations: list[dict[str, Any]]) -> CurveTable:
    """Return the recorded table, or an empty one."""
    table = CurveTable(name, tuple(configurations))
    if table.path.exists():
        recorded = CurveTable.load(name)
        if list(recorded.configurations) != configurations:
            raise SystemExit(f"{table.path} holds curves of other configurations: move it away.")
        return recorded
    return table


if __name__ == "__main__":
    main()
