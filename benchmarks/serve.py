"""Measure what HTTP costs: one client, many clients, large images, and a flood.

    python benchmarks/serve.py MODEL [--requests 10000] [--clients 16] [--flood 400] [--minutes 5]

MODEL is a folder, `runs:/ID` or `models:/NAME@champion`. Images are street scenes of 480x360 as
JPEG. The server is a process of its own. Targets: at most 5 ms more than `segment` of the same
bytes in process; run lengths of a 4,000 x 4,000 image in at most 10 % of its segmentation; 16
clients at 0.95 of `predict` on a folder; of a flood, each answer 200 or 429, sampled masks equal to
those in process, and less than 2 % more memory over its last 80 %. Clients that are refused come
again after a tenth of a second; the flood ends early after `--minutes`.
"""

import argparse
import http.client
import io
import json
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image

import segtune
from segtune.data.street.scenes import Scene
from segtune.inference.regions.regions import find_regions
from segtune.inference.segmenter import Segmenter
from segtune.runtime.log import silent

HEIGHT, WIDTH, LARGE = 360, 480, 4000
_IMAGES = 64
_PAUSE = 0.02  # seconds in which the threads of the call before go to sleep
_SAMPLES = 100  # masks that are compared
_MET: list[bool] = []


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def post(connection: http.client.HTTPConnection, body: bytes, query: str = "") -> tuple[int, bytes]:
    """One request on a connection that stays open."""
    connection.request("POST", f"/v1/segment{query}", body)
    response = connection.getresponse()
    return response.status, response.read()


@contextmanager
def serving(model: str, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A server in a process of its own: its port and process."""
    words = [sys.executable, "-m", "segtune", "serve", f"model={model}", "port=0"]
    words += [f"jobs={folder / 'jobs'}", "poll=0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "http://" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield int(line.rpartition(":")[2].split()[0]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def run_lengths(segmenter: Segmenter, pixels: np.ndarray) -> tuple[float, float]:
    """Milliseconds of segmenting an image, and of its answer as run lengths."""
    result = segmenter.segment(pixels)

    def answer() -> None:
        regions = find_regions(result.mask, result.confidence, result.classes)
        json.dumps([region.to_json(polygons=False) for region in regions])

    forward = min(timed(lambda: segmenter.segment(pixels)) for _ in range(3))
    return forward, min(timed(answer) for _ in range(3))


def overhead(segmenter: Segmenter, port: int, bodies: Sequence[bytes]) -> list[float]:
    """Milliseconds that HTTP takes more than the same bytes in process, in turns."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def here(body: bytes) -> None:
        result = segmenter.segment(body)
        json.dumps([region.to_json(polygons=False) for region in result.regions])

    differences = []
    for body in (*bodies[:5], *bodies):  # the first ones warm up
        time.sleep(_PAUSE)
        over_http = timed(partial(post, connection, body))
        time.sleep(_PAUSE)
        differences.append(over_http - timed(partial(here, body)))
    return differences[5:]


def flood(
    port: int, bodies: Sequence[bytes], total: int, clients: int, pause: float = 0.0
) -> Iterator[tuple[int, int, bytes]]:
    """Answers (number of the image, status, mask) to so many requests, some at a time.

    Args:
        pause: seconds that a client waits after it was refused.
    """
    waiting: queue.Queue[int] = queue.Queue()
    answers: queue.Queue[tuple[int, int, bytes]] = queue.Queue()
    for number in range(total):
        waiting.put(number % len(bodies))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            status, body = post(connection, bodies[number], "?formats=masks")
            answers.put((number, status, body))
            time.sleep(pause if status == 429 else 0.0)

    for _ in range(clients):
        threading.Thread(target=client, daemon=True).start()
    for _ in range(total):
        yield answers.get(timeout=120)


def rates_of_predict(
    model: str, folder: Path, port: int, bodies: Sequence[bytes], clients: int
) -> Iterator[float]:
    """The rate of many clients over that of `predict` on a folder, three times in turns."""
    images = folder / "images"
    images.mkdir()
    total = 4 * len(bodies)
    for number in range(total):
        (images / f"{number}.jpg").write_bytes(bodies[number % len(bodies)])
    for turn in range(3):
        predict = partial(segtune.predict, model, images, folder / f"out{turn}", say=silent)
        in_process = timed(partial(predict, formats=("masks",)))
        yield in_process / timed(lambda: list(flood(port, bodies, total, clients)))


def stand_flood(
    arguments: argparse.Namespace,
    port: int,
    process: psutil.Process,
    bodies: Sequence[bytes],
    masks: Sequence[np.ndarray],
) -> None:
    """Flood the server; print its answers and its memory."""
    statuses: Counter[int] = Counter()
    compared = differing = memory = 0
    end = time.monotonic() + 60 * arguments.minutes
    total = arguments.requests
    for number, status, body in flood(port, bodies, total, arguments.flood, pause=0.1):
        statuses[status] += 1
        if status == 200 and compared < _SAMPLES:
            compared += 1
            mask = np.array(Image.open(io.BytesIO(body)))
            differing += not np.array_equal(mask, masks[number])
        if statuses.total() == total // 5:
            memory = process.memory_info().rss
        if time.monotonic() > end:
            break
    growth = process.memory_info().rss / memory - 1 if memory else float("nan")
    row(
        f"{statuses.total()} requests, {arguments.flood} at a time",
        f"{dict(statuses)}; {differing} of {compared} masks differ",
        "200 and 429; equal masks",
        not differing and set(statuses) <= {200, 429},
    )
    row("memory over its last 80 %", f"{growth:+.1%}", "under 2 %", growth < 0.02)


def row(figure: str, measured: str, target: str, is_met: bool) -> None:
    """Print a row of the table, and note whether it meets its target."""
    _MET.append(is_met)
    print(f"| {figure} | {measured} | {target} | {'' if is_met else 'missed'} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--flood", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=5.0, help="for the flood")
    arguments = parser.parse_args()
    segmenter = segtune.load(arguments.model, runtime="auto")
    assert isinstance(segmenter, Segmenter)
    scenes = [Scene(70_000 + n).render(HEIGHT, WIDTH).image for n in range(_IMAGES)]
    bodies = [cv2.imencode(".jpg", scene[..., ::-1])[1].tobytes() for scene in scenes]
    large = cv2.resize(scenes[0], (LARGE, LARGE), interpolation=cv2.INTER_CUBIC)
    forward, answer = run_lengths(segmenter, large)
    row(
        f"run lengths of {LARGE} x {LARGE}",
        f"{answer:.0f} of {forward:.0f} ms, {answer / forward:.1%}",
        "10 % of its segmentation",
        answer <= 0.1 * forward,
    )
    masks = [segmenter.segment(body).mask for body in bodies]
    with (
        tempfile.TemporaryDirectory() as name,
        serving(arguments.model, Path(name)) as (port, process),
    ):
        extra = statistics.median(overhead(segmenter, port, bodies))
        row("one client, more than in process", f"{extra:.1f} ms", "5 ms", extra <= 5)
        ratios = rates_of_predict(arguments.model, Path(name), port, bodies, arguments.clients)
        ratio = statistics.median(ratios)
        row(f"{arguments.clients} clients, rate of predict", f"{ratio:.2f}", "0.95", ratio >= 0.95)
        stand_flood(arguments, port, process, bodies, masks)
    return int(not all(_MET))


if __name__ == "__main__":
    sys.exit(main())
