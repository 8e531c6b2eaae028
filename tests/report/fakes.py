"""Runs with evidence, written without training: what a report, a gate or a card reads."""

import numpy as np

from segtune.classes import ClassTable
from segtune.tracking.datasets import keep_pictures
from segtune.tracking.names import file_name
from segtune.tracking.run_writer import RunWriter
from tests.measure.test_evidence import evidence

EVIL = "<script>alert(1)</script>"
CLASSES = ("road", EVIL, "sky")


def matrices(quality, number=120, seed=0, classes=3, jitter=0.05):
    """Confusion matrices (N, C, C) of images of 2,000 pixels, whose truths are always the same."""
    truth = np.random.default_rng(1).multinomial(2000, np.full(classes, 1 / classes), number)
    rng = np.random.default_rng(seed)
    drawn = np.clip(quality + rng.normal(0, jitter, number), 0, 1)
    hits = rng.binomial(truth, drawn[:, None])
    found = np.zeros((number, classes, classes), np.int64)
    rows = np.arange(classes)
    found[:, rows, rows] = hits
    found[:, rows, (rows + 1) % classes] = truth - hits
    return found


def fake_run(
    store, name, quality=0.8, state="finished", sweep=None, params=None, seed=0, split="val", number=120, counts=None,
    tags=None, **origin,
):  # fmt: skip
    """A run of a given quality; `origin` overrides fields of the evidence's origin, no split leaves none."""
    own = {
        "segtune.kind": "trial" if sweep else "run",
        "segtune.dataset": "f" * 64,
        "segtune.dataset.train": "t" * 64,
    }
    own |= {"segtune.version": "0", "segtune.command": f"segtune train seed={seed}"}
    own |= {"segtune.sweep": sweep} if sweep else {}
    given = {
        "hp.width": name[-1],
        "seed": seed,
        "template": "swift",
        "dataset.name": "d",
        **(params or {}),
    }
    given = {k: v for k, v in given.items() if v is not None}
    run = RunWriter.create(store, name, given, own | (tags or {}))
    run.data("classes.json", ClassTable.parse(list(CLASSES)).to_json())
    run.data("config.yaml", {"seed": seed, "dataset": {"licence": "CC0"}})
    run.data("environment.json", {"python": "3", "libraries": {"torch": "2"}})
    for epoch in range(3):
        run.metrics({"val/miou": quality * (epoch + 1) / 3, "epoch": epoch}, epoch)
    if state == "finished":
        found = (
            matrices(quality, number, seed=sum(map(ord, name)) + seed) if counts is None else counts
        )
        run.metrics({"best/val/miou": quality}, 3)
        if split:
            add_evidence(store, run, found, split, **origin)
    run.finish(state)
    return run.run_id


def add_evidence(store, run, counts, split="val", groups=None, **origin):
    """Evidence of given matrices."""
    names = tuple(f"img{n}" for n in range(len(counts)))
    rng = np.random.default_rng(0)
    told = {"classes": CLASSES, "split": split, "cost": {"params_m": 1.0, "gflops": 0.1, "latency_ms": 5.0,
            "latency_p95_ms": 6.0, "size_mb": 4.0}, **origin}  # fmt: skip
    made = evidence(rng, names, told.pop("classes"), groups, matrices=counts, **told)
    folder = run.folder / "evidence" / file_name(split.replace("/", "_"))
    made.save(folder)
    run.folder_artifact(folder, f"evidence/{folder.name}")
    run.tags({f"segtune.evidence.{split}": folder.name})
    picture = np.full((8, 10, 3), 99, np.uint8), np.zeros((8, 10), np.uint8)
    keep_pictures(store, "d", split, made.origin.fingerprint, lambda: dict.fromkeys(names, picture))
