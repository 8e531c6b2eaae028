"""Time the data: the wait for a batch, the memory of two workers, and lists of 100,000 images.

    python benchmarks/data.py                # waiting, cold build, shared memory
    python benchmarks/data.py --files 100000 # listing, fingerprint and split of many small files

The wait is the time of the loader for a batch, as a share of a whole CPU step (batch 8, 360x480,
swift, bf16, loss at stride 4). For comparison, a second loader decodes every image from PNG when it
is read. The cold build of the cache is compared with the time to decode the files only.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from segtune.config.compose import compose
from segtune.config.dataset_schema import SplitsConfig
from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded, Streamed, shapes_of
from segtune.data.reading.images import read_image, read_mask
from segtune.data.source.layout import Source
from segtune.data.sources import open_source

_SHARED = """
import sys, psutil
from segtune.config.compose import compose
from segtune.data.batches.cache import load_split
from segtune.data.sources import open_source
split = load_split(open_source(compose(sys.argv[1:]).config.dataset), "train", [360])
sum(int(i[::64, ::64].sum()) for i in split.images)
print("ready", flush=True); input()
size = sum(i.nbytes for i in split.images)
print(psutil.Process().memory_full_info().uss, size, flush=True); input()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--files", type=int, default=0, help="measure a list of so many images instead"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGTUNE_CACHE"] = f"{folder}/cache"
        if options.files:
            _time_lists(Path(folder) / "many", options.files)
            return
        scenes = f"{{width:480,height:360,train:{options.images},val:8,test:1,clips:0,seed:0}}"
        words = ["dataset=street", f"dataset.street={scenes}", f"dataset.root='{folder}/street'"]
        training = ["template=swift", "hp.image_size=[360]", "hp.batch_size=8"]
        config = compose([*words, *training, "augment=light", "loss.stride=4"]).config
        source = open_source(config.dataset, print)
        train = _time_cache(source)
        _time_waits(config, source, train, options.steps)
        _measure_memory(words)


def _time_cache(source: Source) -> Decoded:
    """Time the cold build of the cache against decoding only; return the train split."""
    pairs = source.pairs("train")
    started = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda p: (read_image(p.image), read_mask(p.mask)), pairs))
    decoding = time.perf_counter() - started
    started = time.perf_counter()
    train = load_split(source, "train", [360])
    cold = time.perf_counter() - started
    started = time.perf_counter()
    load_split(source, "train", [360])
    warm = time.perf_counter() - started
    print(f"\ncold build of {len(pairs)} images: {cold:.2f} s; opened again: {warm:.2f} s")
    print(f"cold build / decoding only: {cold / decoding:.2f} ({decoding:.2f} s)")
    return train


def _time_waits(config: RunConfig, source: Source, train: Decoded, steps: int) -> None:
    """Time the loaders beside the training step that uses their batches."""
    from segtune.data.batches.datamodule import LoaderOptions, SegmentationData
    from segtune.training.components import build_augment

    classes = len(source.classes)
    step = _training_step(config, train, classes)
    waits: dict[str, list[float]] = {"the cache": [], "PNG, decoded when read": []}
    loaders = {}
    for name, split in zip(waits, (train, _from_png(source, train)), strict=True):
        augment = build_augment(config, split, classes)
        data = SegmentationData(split, split, augment, LoaderOptions(8))
        loaders[name] = iter(data.train_dataloader())
    step_times = []
    for _ in range(steps):
        for name, loader in loaders.items():
            started = time.perf_counter()
            batch = next(loader)
            waits[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        step(batch)
        step_times.append(time.perf_counter() - started)
    step_seconds = statistics.median(step_times[2:])
    print("\n| images of a batch from | wait, ms | step, ms | wait / (step + wait) | target |")
    print("| --- | --- | --- | --- | --- |")
    for (name, seconds), target in zip(waits.items(), ("< 3 %", ""), strict=True):
        wait = statistics.median(seconds[2:])
        share = 100 * wait / (wait + step_seconds)
        cells = f"{1e3 * wait:.1f} | {1e3 * step_seconds:.0f} | {share:.1f} %"
        print(f"| {name} | {cells} | {target} |")


def _from_png(source: Source, train: Decoded) -> Decoded:
    """Return the split with images and masks that are decoded at each read."""
    pairs = source.pairs("train")
    images = Streamed(lambda i: read_image(pairs[i].image), shapes_of(train.images))
    masks = Streamed(lambda i: read_mask(pairs[i].mask), shapes_of(train.masks))
    return Decoded(train.names, images, masks, train.fingerprint, train.counts)


def _training_step(
    config: RunConfig, train: Decoded, classes: int
) -> Callable[[dict[str, Any]], None]:
    import torch

    from segtune.models.build import build
    from segtune.models.losses.segmentation import SegmentationLoss
    from segtune.models.optim.optimizer import build_optimizer
    from segtune.tasks.segmentation import Segmentation

    model = build(config.template["model"], classes).to(memory_format=torch.channels_last).train()
    loss = SegmentationLoss(config.loss, train.class_shares(classes))
    optimizer = build_optimizer(config.optimizer, model, 1e-3)

    def step(batch: dict[str, Any]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            batch["image"] = batch["image"].to(memory_format=torch.channels_last)
            value = Segmentation().loss_of(model, loss, batch)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _measure_memory(words: list[str]) -> None:
    """Let two processes map the same split, and print the memory that each one does not share."""
    command = [sys.executable, "-c", _SHARED, *words]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin and process.stdout
        process.stdout.readline()
    private, size = [], 0
    for process in processes:
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        own, size = (int(v) for v in process.stdout.readline().split())
        private.append(f"{own / 1e6:.0f} MB")
    for process in processes:
        process.communicate("\n")
    print(f"two workers, a split of {size / 1e6:.0f} MB: {' and '.join(private)} not shared,")
    print("libraries included")


def _time_lists(root: Path, count: int) -> None:
    """Time a dataset of small files, a thousand in a folder."""
    tiny = bytes.fromhex("89504e470d0a1a0a")
    print(f"writing {2 * count} files")
    for number in range(count):
        for kind in ("images", "masks"):
            folder = root / kind / f"drive_{number // 1000:03d}"
            if number % 1000 == 0:
                folder.mkdir(parents=True)
            (folder / f"{number:06d}.png").write_bytes(
                tiny + number.to_bytes(4, "big") + kind.encode()
            )
    print("| pass | listing and split, s | fingerprint, s | both, s | target, s |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("first", "second", "one file changed"):
        if name == "one file changed":
            (root / "images" / "drive_000" / "000000.png").write_bytes(tiny + b"changed")
        source = _open(root)
        started = time.perf_counter()
        source.pairs("train"), source.pairs("val")
        listing = time.perf_counter() - started
        started = time.perf_counter()
        source.fingerprint()
        hashing = time.perf_counter() - started
        target = "" if name == "first" else "60"
        cells = f"{listing:.1f} | {hashing:.1f} | {listing + hashing:.1f}"
        print(f"| {name} | {cells} | {target} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\npeak memory {peak:.2f} GB (target under 1 GB)")


def _open(root: Path) -> Source:
    words = ["dataset=folder", f"dataset.root='{root}'", "dataset.classes=[a,b]"]
    words += ["dataset.images=images", "dataset.masks=masks", "dataset.groups='^[^/]+'"]
    config = compose(words).config.dataset.model_copy(update={"splits": SplitsConfig(val=0.2)})
    return open_source(config)


if __name__ == "__main__":
    main()
