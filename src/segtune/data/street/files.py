"""Write the street scenes in the layout of any image/mask folder, so that one loader reads both."""

from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import StreetConfig
from segtune.data.street.canvas import Frame
from segtune.data.street.scenes import Scene
from segtune.runtime.log import Log

VERSION = 1
"""Part of the cache's key: raise it if a scene of the same seed looks different."""

CLIP_RATE = 12  # frames per second
_SPLIT_SEEDS = {"train": 0, "val": 1, "test": 2, "clips": 3}


def write_dataset(root: Path, settings: StreetConfig, say: Log) -> None:
    """Write images/, masks/ and finer/ of train, val and test, and clips/ with clip_masks/.

    No scene is part of two splits: each split has its own range of seeds.
    """
    counts = {"train": settings.train, "val": settings.val, "test": settings.test}
    say(f"drawing {sum(counts.values())} street scenes of {settings.width}x{settings.height}")
    for split, count in counts.items():
        for kind in ("images", "masks", "finer"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            scene = Scene(scene_seed(settings.seed, split, index))
            frame = scene.render(settings.height, settings.width)
            _write_frame(root, split, f"{index:05d}.png", frame)
    for index in range(settings.clips):
        _write_clip(root, index, settings)


def scene_seed(seed: int, split: str, index: int) -> int:
    """The seed of one scene; the ranges of the splits do not overlap."""
    return (seed * 4 + _SPLIT_SEEDS[split]) * 1_000_000 + index


def _write_frame(root: Path, split: str, name: str, frame: Frame) -> None:
    _write_png(root / "images" / split / name, frame.image[..., ::-1])
    _write_png(root / "masks" / split / name, frame.mask)
    _write_png(root / "finer" / split / name, frame.finer)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    _, encoded = cv2.imencode(".png", pixels)
    path.write_bytes(encoded.tobytes())  # cv2.imwrite does not say why a disk refuses


def _write_clip(root: Path, index: int, settings: StreetConfig) -> None:
    """Write a drive through one scene as H.264, and the exact mask of every frame."""
    masks = root / "clip_masks" / f"clip_{index:02d}"
    masks.mkdir(parents=True)
    (root / "clips").mkdir(exist_ok=True)
    scene = Scene(scene_seed(settings.seed, "clips", index))
    with av.open(str(root / "clips" / f"clip_{index:02d}.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=CLIP_RATE, options={"crf": "18"})
        stream.width, stream.height = settings.width // 2 * 2, settings.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for number in range(settings.clip_frames):
            frame = scene.render(settings.height, settings.width, seconds=number / CLIP_RATE)
            _write_png(masks / f"{number:05d}.png", frame.mask)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        container.mux(stream.encode())
