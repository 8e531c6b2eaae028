"""Compare `predict` with a bare loop on images, and with the slowest single stage on a video.

    python benchmarks/predict.py MODEL [--images 200] [--frames 240] [--rounds 3]

MODEL is a folder, `runs:/ID` or `models:/NAME@champion`. The images are street scenes of 480x360 as
PNG; the video has the same size, in H.264. The bare loop only decodes, runs the model in the same
way, and writes index PNGs. Rounds alternate, and the median of their ratios counts. The targets are
0.9 of the bare loop and 0.9 of the slowest stage.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image

import segtune
from segtune.data.reading.images import resize_image, target_size
from segtune.data.street.scenes import Scene
from segtune.inference.segmenter import Segmenter

HEIGHT, WIDTH, RATE = 360, 480, 24


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def draw(folder: Path, images: int, frames: int) -> Path:
    """Draw images in `folder/images`, and a video of a drive through a scene; return its path."""
    (folder / "images").mkdir()
    for number in range(images):
        view = Scene(70_000 + number).render(HEIGHT, WIDTH)
        cv2.imwrite(str(folder / "images" / f"{number:04d}.png"), view.image[..., ::-1])
    path, scene = folder / "drive.mp4", Scene(80_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"crf": "20", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            view = scene.render(HEIGHT, WIDTH, seconds=number / RATE)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view.image, format="rgb24")))
        container.mux(stream.encode())
    return path


@torch.inference_mode()
def ids_of(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    """Return the class ids (H, W) of an image (H, W, 3); the confidences are computed too."""
    size = target_size(HEIGHT, WIDTH, segmenter.image_size)
    batch = torch.from_numpy(resize_image(image, *size)).permute(2, 0, 1)[None]
    return segmenter.decide(batch, (HEIGHT, WIDTH))[0][0]


def bare(segmenter: Segmenter, folder: Path, output: Path) -> None:
    """Decode, run the model, and write a PNG, one image after the other."""
    output.mkdir(exist_ok=True)
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as opened:
            image = np.array(opened.convert("RGB"))
        Image.fromarray(ids_of(segmenter, image)).save(output / path.name, compress_level=3)


def decoded(path: Path) -> list[np.ndarray]:
    """Return all frames of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def encode(frames: list[np.ndarray], path: Path) -> None:
    """Encode frames like predict's overlay video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(RATE), options={"crf": "20", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def predict(model: str, source: Path, output: Path, formats: tuple[str, ...]) -> None:
    segtune.predict(model, source, output, formats=formats, overwrite=True, say=lambda line: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    segmenter = segtune.load(arguments.model)
    assert isinstance(segmenter, Segmenter)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        video = draw(folder, arguments.images, arguments.frames)
        frames = decoded(video)
        threads = torch.get_num_threads()
        size = f"{WIDTH}x{HEIGHT}"
        print(f"{arguments.images} images, {len(frames)} frames of {size}, {threads} threads")
        print("\n| input | alone, per second | predict, per second | median ratio | target |")
        print("| --- | --- | --- | --- | --- |")
        measure_images(arguments, segmenter, folder)
        measure_video(arguments, segmenter, video, frames)


def measure_images(arguments: argparse.Namespace, segmenter: Segmenter, folder: Path) -> None:
    images, output = folder / "images", folder / "out"
    for formats in (("masks",), ("masks", "overlays", "regions")):
        pairs = []
        for _ in range(arguments.rounds):
            loop = seconds(lambda: bare(segmenter, folder, folder / "bare"))
            ours = seconds(partial(predict, arguments.model, images, output, formats))
            pairs.append((loop, ours))
        print_row(f"images: {', '.join(formats)}", arguments.images, pairs)


def measure_video(
    arguments: argparse.Namespace, segmenter: Segmenter, video: Path, frames: list[np.ndarray]
) -> None:
    stages = {
        "decoding": lambda: decoded(video),
        "model": lambda: [ids_of(segmenter, frame) for frame in frames],
        "encoding": lambda: encode(frames, video.with_name("encoded.mp4")),
    }
    for formats in (("regions",), ("overlays",)):
        pairs, slowest = [], ""
        for _ in range(arguments.rounds):
            alone = {name: seconds(stage) for name, stage in stages.items()}
            slowest = max(alone, key=lambda n: alone[n])
            output = video.with_name("clip")
            pairs.append(
                (alone[slowest], seconds(partial(predict, arguments.model, video, output, formats)))
            )
        print_row(f"video: {', '.join(formats)} (slowest stage: {slowest})", len(frames), pairs)


def print_row(name: str, count: int, pairs: list[tuple[float, float]]) -> None:
    """Print one line of the table from (seconds alone, seconds of predict) of each round."""
    alone, ours = map(statistics.median, zip(*pairs, strict=True))
    ratio = statistics.median(a / o for a, o in pairs)
    print(f"| {name} | {count / alone:.1f} | {count / ours:.1f} | {ratio:.2f} | 0.9 |", flush=True)


if __name__ == "__main__":
    main()
