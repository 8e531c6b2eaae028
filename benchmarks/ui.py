"""Measure what `segtune ui` costs a sweep that it follows, and how late each epoch is shown.

    python benchmarks/ui.py [--trials 4] [--epochs 10] [--train 40] [--width 192]

A sweep of street scenes runs with two workers, `segtune ui` follows it in a process of its own, and
this script reads the events as a page does. The study's journal says when each epoch was recorded.
Targets: each epoch within 2 s; the pages take less than 1 % of the processor time of the sweep.
"""

import argparse
import http.client
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

Shown = dict[tuple[int, int], float]  # (trial, epoch) -> time of the event, seconds since 1970
_INTERMEDIATE, _TRIAL_ATTRIBUTE = 7, 8  # operations of Optuna's journal


def sweep_file(options: argparse.Namespace) -> dict[str, object]:
    scenes = f"width:{options.width},height:{options.width * 2 // 3},train:{options.train}"
    return {
        "n_trials": options.trials,
        "workers": 2,
        "pruner": "none",
        "overrides": [
            "dataset=street",
            f"dataset.street={{{scenes},val:12,test:4,clips:1,clip_frames:5,seed:7}}",
            *("template=swift", "trainer=cpu", "hp.image_size=[128]", "hp.width=16"),
            f"hp.num_epochs={options.epochs}",
        ],
        "search": {"hp.per_item_lrate": {"min": 1e-3, "max": 8e-3, "log": True}},
    }


def segtune(*words: str, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "segtune", *words]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options)


@contextmanager
def pages(root: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The pages in a process of their own: their port and process."""
    process = segtune("ui", "port=0", f"tracking.root={root}")
    try:
        assert process.stderr is not None
        place = next(line for line in process.stderr if "http://" in line)
        # ROOT: http://127.0.0.1:PORT (Ctrl-C ends it)
        yield int(place.rpartition(":")[2].split()[0]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def follow(port: int, shown: Shown) -> None:
    """Note when each epoch is first shown, until the server ends."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/sweeps/bench/events")
    with suppress(OSError, http.client.HTTPException):  # the server ends in the middle
        for line in connection.getresponse():
            if line.startswith(b"data: "):
                note(json.loads(line[6:])["curves"], shown)


def note(curves: list[dict[str, Any]], shown: Shown) -> None:
    now = time.time()
    for row in curves:
        for epoch, _ in row["curve"]:
            shown.setdefault((row["number"], epoch), now)


def recorded(journal: Path) -> Shown:
    """Return when each epoch was recorded: its trial's next pulse says so."""
    times: Shown = {}
    waiting: dict[int, int] = {}
    for line in journal.read_text().splitlines():
        entry = json.loads(line)
        trial = entry.get("trial_id")
        if entry["op_code"] == _INTERMEDIATE:
            waiting[trial] = entry["step"]
        pulse = entry.get("user_attr", {}).get("pulse")
        if entry["op_code"] == _TRIAL_ATTRIBUTE and pulse and trial in waiting:
            times[trial, waiting.pop(trial)] = pulse["at"]
    return times


def seconds_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("trials", 4), ("epochs", 10), ("train", 40), ("width", 192)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    (folder / "sweeps").mkdir()
    (folder / "sweeps/bench.yaml").write_text(yaml.safe_dump(sweep_file(options)))
    root, shown = folder / "mlruns", Shown()
    journal = root / "sweeps/bench/journal.log"
    with (folder / "log").open("w") as log:
        words = [sys.executable, "-m", "segtune", "sweep", "bench", f"tracking.root={root}"]
        sweep = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        while not journal.is_file() or b'"lease"' not in journal.read_bytes():
            assert sweep.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        with pages(root) as (port, process):
            follower = threading.Thread(target=follow, args=(port, shown), daemon=True)
            follower.start()
            while not shown and sweep.poll() is None:
                time.sleep(0.1)
            started, at_start = time.time(), seconds_of(process)
            sweep.wait()
            used, wall = seconds_of(process) - at_start, time.time() - started
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # the pages still run
    report(shown, recorded(journal), started, (used, usage.ru_utime + usage.ru_stime, wall))


def report(shown: Shown, times: Shown, started: float, cost: tuple[float, float, float]) -> None:
    """Print the delays of the epochs since the page was opened, and the cost.

    Args:
        cost: processor seconds of the pages and of the sweep, and seconds on the clock.
    """
    used, sweep_seconds, wall = cost
    delays = [shown[key] - at for key, at in times.items() if at > started and key in shown]
    missed = sum(at > started and key not in shown for key, at in times.items())
    print(f"{len(delays)} epochs shown, {missed} missed")
    if not delays:
        sys.exit("the sweep ended before the page was open: give more --trials or --epochs")
    print(f"delay: median {statistics.median(delays):.2f} s, largest {max(delays):.2f} s")
    share = 100 * used / sweep_seconds
    print(f"pages: {used:.2f} s of processor time in {wall:.0f} s, {share:.2f} % of the sweep's")


if __name__ == "__main__":
    main()
