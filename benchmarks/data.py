"""What data costs: waiting for batches beside a training step, two workers' memory, and lists of 100,000 images.

    python benchmarks/data.py                # waiting, cold build, shared memory
    python benchmarks/data.py --files 100000 # listing, fingerprint and split of many small files

Waiting is the time that the loader takes for a batch, over that of a whole CPU step (batch 8, 360x480, swift, bf16,
loss at stride 4); beside it, the same with every image decoded from PNG as it is read. Cold build is compared with
decoding alone.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segtune.config.compose import compose
from segtune.config.dataset_schema import SplitsConfig
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
print(psutil.Process().memory_full_info().uss, sum(i.nbytes for i in split.images), flush=True); input()
"""


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--files", type=int, default=0, help="measure lists of so many images instead"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGTUNE_CACHE"] = f"{folder}/cache"
        if options.files:
            _many(Path(folder) / "many", options.files)
            return
        scenes = f"{{width:480,height:360,train:{options.images},val:8,test:1,clips:0,seed:0}}"
        words = ["dataset=street", f"dataset.street={scenes}", f"dataset.root='{folder}/street'"]
        _waiting(words, options.steps)
        _memory(words)


def _waiting(words: list[str], steps: int) -> None:
    import torch

    from segtune.data.batches.datamodule import LoaderOptions, SegmentationData
    from segtune.models.build import build
    from segtune.models.losses.segmentation import SegmentationLoss
    from segtune.models.optim.optimizer import build_optimizer
    from segtune.tasks.segmentation import Segmentation
    from segtune.training.components import build_augment

    words = [
        *words,
        "template=swift",
        "hp.image_size=[360]",
        "hp.batch_size=8",
        "augment=light",
        "loss.stride=4",
    ]
    config = compose(words).config
    source = open_source(config.dataset, print)
    pairs = source.pairs("train")
    started = time.perf_counter()
    with ThreadPoolExecutor() as pool:  # what a cold build cannot do without
        list(pool.map(lambda p: (read_image(p.image), read_mask(p.mask)), pairs))
    bare = time.perf_counter() - started
    started = time.perf_counter()
    train = load_split(source, "train", [360])
    cold = time.perf_counter() - started
    started = time.perf_counter()
    load_split(source, "train", [360])
    warm = time.perf_counter() - started

    def read(place: int) -> Streamed:
        return Streamed(
            lambda i: read_image(pairs[i].image) if place == 0 else read_mask(pairs[i].mask),
            shapes_of((train.images, train.masks)[place]),
        )

    fly = Decoded(train.names, read(0), read(1), train.fingerprint, train.counts)
    classes = len(source.classes)
    model = build(config.template["model"], classes).to(memory_format=torch.channels_last).train()
    loss = SegmentationLoss(config.loss, train.class_shares(classes))
    optimizer = build_optimizer(config.optimizer, model, 1e-3)
    waits: dict[str, list[float]] = {"cache": [], "png": []}
    step_times = []
    loaders = {}
    for name, split in (("cache", train), ("png", fly)):
        augment = build_augment(config, split, classes)
        data = SegmentationData(split, split, augment, LoaderOptions(8))
        loaders[name] = iter(data.train_dataloader())
    for _ in range(steps):
        for name, loader in loaders.items():
            started = time.perf_counter()
            batch = next(loader)
            waits[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            batch["image"] = batch["image"].to(memory_format=torch.channels_last)
            value = Segmentation().loss_of(model, loss, batch)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        step_times.append(time.perf_counter() - started)
    step = statistics.median(step_times[2:])
    print("\n| images of a batch from | wait, ms | step, ms | wait over step and wait | target |")
    print("| --- | --- | --- | --- | --- |")
    for name, label, target in (
        ("cache", "the cache", "< 3 %"),
        ("png", "PNG, decoded on the fly", ""),
    ):
        wait = statistics.median(waits[name][2:])
        print(
            f"| {label} | {1e3 * wait:.1f} | {1e3 * step:.0f} | {100 * wait / (wait + step):.1f} % | {target} |"
        )
    print(f"\ncold build of {len(pairs)} images: {cold:.2f} s, {cold / bare:.2f} of decoding alone ({bare:.2f} s); "
          f"opened again: {warm:.2f} s")  # fmt: skip


def _memory(words: list[str]) -> None:
    """Two processes that map the same split: what each holds for itself."""
    command = [sys.executable, "-c", _SHARED, *words]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    lines = []
    for process in both:
        assert process.stdin and process.stdout
        process.stdout.readline()
    for process in both:
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        lines.append([int(v) for v in process.stdout.readline().split()])
    for process in both:
        process.communicate("\n")
    own = [f"{line[0] / 1e6:.0f} MB" for line in lines]
    size = lines[0][1] / 1e6
    print(
        f"two workers, a split of {size:.0f} MB: {own[0]} and {own[1]} of their own, libraries included"
    )


def _many(root: Path, count: int) -> None:
    """Small files, a thousand to a folder."""
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
        print(
            f"| {name} | {listing:.1f} | {hashing:.1f} | {listing + hashing:.1f} | {target} |",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\npeak memory {peak:.2f} GB (target under 1 GB)")


def _open(root: Path) -> Source:
    words = ["dataset=folder", f"dataset.root='{root}'", "dataset.classes=[a,b]"]
    words += ["dataset.images=images", "dataset.masks=masks", "dataset.groups='^[^/]+'"]
    config = compose(words).config.dataset.model_copy(update={"splits": SplitsConfig(val=0.2)})
    return open_source(config)


if __name__ == "__main__":
    main()
