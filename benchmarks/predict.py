"""Whether `predict` keeps the model busy: images against a bare loop, a video against its slowest single stage.

    python benchmarks/predict.py MODEL [--images 200] [--frames 240] [--rounds 3]

MODEL is a folder, `runs:/ID` or `models:/NAME@champion`. The images are street scenes of 480x360 as PNG, the video the
same size as H.264. The bare loop decodes, runs the same model the same way and writes index PNGs, nothing else. Rounds
alternate, and the median of their ratios counts. Targets: 0.9 of the bare loop, 0.9 of the slowest stage.
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
    """What one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def draw(folder: Path, images: int, frames: int) -> Path:
    """Images in `folder/images`; returns the video, in which one scene is driven through."""
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
    """The model's answer for one image (H, W, 3) as class ids (H, W), with the confidence that predict states too."""
    size = target_size(HEIGHT, WIDTH, segmenter.image_size)
    batch = torch.from_numpy(resize_image(image, *size)).permute(2, 0, 1)[None]
    return segmenter.decide(batch, (HEIGHT, WIDTH))[0][0]


def bare(segmenter: Segmenter, folder: Path, output: Path) -> None:
    """Decode, model, PNG, one after the other."""
    output.mkdir(exist_ok=True)
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as opened:
            image = np.array(opened.convert("RGB"))
        Image.fromarray(ids_of(segmenter, image)).save(output / path.name, compress_level=3)


def decoded(path: Path) -> list[np.ndarray]:
    """All frames of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def encode(frames: list[np.ndarray], path: Path) -> None:
    """Frames as predict's overlay video is encoded."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(RATE), options={"crf": "20", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def predict(model: str, source: Path, output: Path, formats: tuple[str, ...]) -> None:
    """What is measured, without its words."""
    segtune.predict(model, source, output, formats=formats, overwrite=True, say=lambda line: None)


def main() -> None:
    """Prints a table."""
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
        print(
            f"{arguments.images} images, {len(frames)} frames of {WIDTH}x{HEIGHT}, {torch.get_num_threads()} threads"
        )
        print("\n| what | alone, per second | predict, per second | ratio, median | target |")
        print("| --- | --- | --- | --- | --- |")
        for formats in (("masks",), ("masks", "overlays", "regions")):
            pairs = []
            for _ in range(arguments.rounds):
                loop = seconds(lambda: bare(segmenter, folder, folder / "bare"))
                pairs.append(
                    (
                        loop,
                        seconds(
                            partial(
                                predict, arguments.model, folder / "images", folder / "out", formats
                            )
                        ),
                    )
                )
            row(f"images: {', '.join(formats)}", arguments.images, pairs)
        stages = {
            "decoding": lambda: decoded(video),
            "model": lambda: [ids_of(segmenter, f) for f in frames],
            "encoding": lambda: encode(frames, folder / "encoded.mp4"),
        }
        for formats in (("regions",), ("overlays",)):
            pairs, slowest = [], ""
            for _ in range(arguments.rounds):
                alone = {name: seconds(stage) for name, stage in stages.items()}
                slowest = max(alone, key=lambda n: alone[n])
                ours = seconds(partial(predict, arguments.model, video, folder / "clip", formats))
                pairs.append((alone[slowest], ours))
            row(f"video: {', '.join(formats)} (slowest stage: {slowest})", len(frames), pairs)


def row(what: str, count: int, pairs: list[tuple[float, float]]) -> None:
    """One line of the table."""
    alone, ours = (statistics.median(p[n] for p in pairs) for n in (0, 1))
    ratio = statistics.median(a / o for a, o in pairs)
    print(f"| {what} | {count / alone:.1f} | {count / ours:.1f} | {ratio:.2f} | 0.9 |", flush=True)


if __name__ == "__main__":
    main()
