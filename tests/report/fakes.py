"""Write runs with evidence but without training, for tests of the report, the gate and the card."""

import numpy as np

from segtune.classes import ClassTable
from segtune.tracking.datasets import keep_pictures
from segtune.tracking.names import file_name
from segtune.tracking.run_writer import RunWriter
from tests.measure.test_evidence import evidence

EVIL = "<script>alert(1)</script>"
CLASSES = ("road", EVIL, "sky")
COST = {
    "params_m": 1.0,
    "gflops": 0.1,
    "latency_ms": 5.0,
    "latency_p95_ms": 6.0,
    "size_mb": 4.0,
}


def matrices(quality, number=120, seed=0, classes=3, jitter=0.05):
    """Return confusion matrices (N, C, C) of images of 2,000 pixels, always with the same truth."""
    truth = np.random.default_rng(1).multinomial(2000, np.full(classes, 1 / classes), number)
    rng = np.random.default_rng(seed)
    image_quality = np.clip(quality + rng.normal(0, jitter, number), 0, 1)
    hits = rng.binomial(truth, image_quality[:, None])
    counts = np.zeros((number, classes, classes), np.int64)
    rows = np.arange(classes)
    counts[:, rows, rows] = hits
    counts[:, rows, (rows + 1) % classes] = truth - hits
    return counts


def fake_run(
    store,
    name,
    quality=0.8,
    state="finished",
    sweep=None,
    params=None,
    seed=0,
    split="val",
    number=120,
    counts=None,
    tags=None,
    **origin,
):  # a test names only the few arguments that it varies
    """Write a run of a given quality; return its id.

    Args:
        split: of the evidence; None for a run without evidence.
        counts: confusion matrices; by default `number` matrices of the given quality.
        origin: fields of the evidence's origin.
    """
    run_tags = {
        "segtune.kind": "trial" if sweep else "run",
        "segtune.dataset": "f" * 64,
        "segtune.dataset.train": "t" * 64,
        "segtune.version": "0",
        "segtune.command": f"segtune train seed={seed}",
    }
    if sweep:
        run_tags["segtune.sweep"] = sweep
    defaults = {"hp.width": name[-1], "seed": seed, "template": "swift", "dataset.name": "d"}
    all_params = {k: v for k, v in (defaults | (params or {})).items() if v is not None}
    run = RunWriter.create(store, name, all_params, run_tags | (tags or {}))
    run.data("classes.json", ClassTable.parse(list(CLASSES)).to_json())
    run.data("config.yaml", {"seed": seed, "dataset": {"licence": "CC0"}})
    run.data("environment.json", {"python": "3", "libraries": {"torch": "2"}})
    for epoch in range(3):
        values = {"val/miou": quality * (epoch + 1) / 3, "train/loss": 1 / (epoch + 1)}
        run.metrics(values | {"epoch": epoch}, epoch)
    if state == "finished":
        if counts is None:
            counts = matrices(quality, number, seed=sum(map(ord, name)) + seed)
        run.metrics({"best/val/miou": quality}, 3)
        if split:
            add_evidence(store, run, counts, split, **origin)
    run.finish(state)
    return run.run_id


def add_evidence(store, run, counts, split="val", groups=None, **origin):
    """Write evidence with these confusion matrices to a run, and small pictures to the store."""
    names = tuple(f"img{n}" for n in range(len(counts)))
    rng = np.random.default_rng(0)
    fields = {"classes": CLASSES, "split": split, "cost": COST, **origin}
    run_evidence = evidence(rng, names, fields.pop("classes"), groups, matrices=counts, **fields)
    folder = run.folder / "evidence" / file_name(split.replace("/", "_"))
    run_evidence.save(folder)
    run.folder_artifact(folder, f"evidence/{folder.name}")
    run.tags({f"segtune.evidence.{split}": folder.name})
    picture = np.full((8, 10, 3), 99, np.uint8), np.zeros((8, 10), np.uint8)
    fingerprint = run_evidence.origin.fingerprint
    keep_pictures(store, "d", split, fingerprint, lambda: dict.fromkeys(names, picture))
