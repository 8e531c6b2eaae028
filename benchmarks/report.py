"""Time a comparison: paired bootstrap resamples, and a report on many runs of a sweep.

    python benchmarks/report.py [--runs 200]

The runs are written without training. Like the runs of a sweep, each one has evidence of 101 images
with 11 classes, a learning curve, and a trial in a study.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from segtune.config.schema import TrackingConfig
from segtune.measure.calibration import Calibration
from segtune.measure.evidence import Evidence, Origin
from segtune.measure.statistics import bootstrap
from segtune.report.compare import compare
from segtune.sweeping.engine.storage import open_storage
from segtune.tracking.datasets import keep_pictures
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import Store, open_store

_IMAGES, _CLASSES, _EPOCHS = 101, 11, 30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    print("| figure | value | target |\n| --- | --- | --- |")
    name = "10,000 paired resamples of 500 images x 19 classes, s"
    print(f"| {name} | {_resampling():.2f} | under 2 |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(TrackingConfig(root=folder))
        storage = open_storage(store.root / "sweeps" / "many", None, "many").optuna
        study = optuna.create_study(study_name="many", direction="maximize", storage=storage)
        for number in range(options.runs):
            study.add_trial(_write_run(store, number))
        started = time.perf_counter()
        report = compare(store, ["many"])
        seconds = time.perf_counter() - started
        size = report.html.stat().st_size / 1e6
    print(f"| report on {options.runs} runs, s | {seconds:.1f} | under 20 |")
    print(f"| size of the report, MB | {size:.1f} | under 15 |")


def _resampling() -> float:
    rng = np.random.default_rng(0)
    pair = [_matrices(rng, q, 500, 19) for q in (0.7, 0.72)]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        bootstrap([[pair[0]], [pair[1]]]).difference(0, 1)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _matrices(rng: np.random.Generator, quality: float, images: int, classes: int) -> np.ndarray:
    truth = np.random.default_rng(1).multinomial(20_000, np.full(classes, 1 / classes), images)
    hits = rng.binomial(truth, np.clip(quality + rng.normal(0, 0.05, images), 0, 1)[:, None])
    matrices = np.zeros((images, classes, classes), np.int64)
    rows = np.arange(classes)
    matrices[:, rows, rows] = hits
    matrices[:, rows, (rows + 1) % classes] = truth - hits
    return matrices


def _write_run(store: Store, number: int) -> FrozenTrial:
    rng = np.random.default_rng(number)
    quality = float(rng.uniform(0.3, 0.7))
    tags = {"segtune.kind": "trial", "segtune.sweep": "many", "segtune.dataset": "f" * 64}
    searched = {
        "hp.per_item_lrate": float(10 ** rng.uniform(-5, -3)),
        "hp.width": int(rng.choice([16, 24, 32])),
    }
    params = searched | {"seed": 0, "dataset.name": "d", "template": "swift"}
    run = RunWriter.create(store, f"many-{number}", params, tags)
    for epoch in range(_EPOCHS):
        run.metrics({"val/miou": quality * (1 - 0.9 ** (epoch + 1))}, epoch)
    pruned = number % 3 == 2
    if not pruned:
        run.metrics({"best/val/miou": quality}, _EPOCHS)
        _keep(store, run, _evidence(rng, quality))
    run.finish("pruned" if pruned else "finished")
    space = {
        "hp.per_item_lrate": FloatDistribution(1e-5, 1e-3, log=True),
        "hp.width": IntDistribution(16, 32, step=8),
    }
    state, value = (TrialState.PRUNED, None) if pruned else (TrialState.COMPLETE, quality)
    return optuna.trial.create_trial(state=state, value=value, params=searched, distributions=space)


def _evidence(rng: np.random.Generator, quality: float) -> Evidence:
    names = tuple(f"image{n}" for n in range(_IMAGES))
    masks = {
        n: rng.integers(0, _CLASSES, (12, 16)).astype(np.uint8).repeat(15, 0).repeat(15, 1)
        for n in names
    }
    confidence = rng.random((1, 1000), np.float32)
    ids = rng.integers(0, _CLASSES, (1, 1000)).astype(np.uint8)
    cost = {
        "latency_ms": float(rng.uniform(5, 50)),
        "latency_p95_ms": 60.0,
        "params_m": float(rng.uniform(1, 30)),
    }
    origin = Origin(
        "d",
        "val",
        "f" * 64,
        tuple(f"class{n}" for n in range(_CLASSES)),
        "s",
        cost,
        "cpu",
        (),
        "now",
    )
    sizes = np.full((_IMAGES, 2), (360, 480))
    outlines = rng.integers(1, 9, (_IMAGES, 2, _CLASSES))
    counts = _matrices(rng, quality, _IMAGES, _CLASSES)
    calibration = Calibration.count(confidence, ids, ids)
    return Evidence(
        origin, names, None, sizes, counts, outlines, calibration, rng.random(_IMAGES), masks
    )


def _keep(store: Store, run: RunWriter, evidence: Evidence) -> None:
    folder = Path(run.folder) / "evidence" / "val"
    evidence.save(folder)
    run.folder_artifact(folder, "evidence/val")
    run.tags({"segtune.evidence.val": "val"})
    rng = np.random.default_rng(0)
    picture = (
        rng.integers(0, 256, (180, 240, 3)).astype(np.uint8),
        rng.integers(0, 11, (180, 240)).astype(np.uint8),
    )
    keep_pictures(
        store,
        "d",
        "val",
        evidence.origin.fingerprint,
        lambda: dict.fromkeys(evidence.names, picture),
    )


if __name__ == "__main__":
    main()
