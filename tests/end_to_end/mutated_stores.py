"""Mutate files of a store and read them: `python -m tests.end_to_end.mutated_stores START COUNT`.

Prints one JSON object: the samples that were read and refused for each kind, the faults, and the
peak of memory. Sample N is the same in every run.
"""

import contextlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from segtune.classes import ClassTable
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.errors import SegtuneError
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.models.build import build
from segtune.models.folder import DESCRIPTION, MANIFEST, WEIGHTS
from segtune.report.candidates import collect
from segtune.report.facts import gather
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.health import damaged_journals
from segtune.sweeping.listing import started_sweeps
from segtune.sweeping.location import address
from segtune.sweeping.progress import progress
from segtune.sweeping.records import front, load_study, run_states, trial_rows
from segtune.tracking.health import broken_checkpoints, stray_runs, undeliverable
from segtune.tracking.recorded import recorded_config
from segtune.tracking.run_writer import RunWriter, deliver_outboxes
from segtune.tracking.runs import curve, get_run, sweep_runs
from segtune.tracking.store import _OPEN_STORES, Store, open_store
from segtune.training.checkpoints import CheckpointWriter, usable_checkpoint
from segtune.training.resuming import resumable
from tests.conftest import SCENES
from tests.data.mutated import NUMBER, mutated, mutated_bytes
from tests.inference.test_mutated_folders import IMAGE, SPEC, sign
from tests.report.fakes import fake_run
from tests.sweeping.test_study import LINE, make_spec

SECONDS_EACH = 10
Rng = np.random.Generator


@dataclass
class Outcome:
    """The result of the samples."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Canary:
    """Code that runs when a pickle is loaded without care: it makes the folder `executed`."""

    def __init__(self, folder: Path, rng: Rng) -> None:
        path = str(folder / "executed")
        code = f"import os; os.makedirs({path!r}, exist_ok=True)"
        calls = [
            (os.makedirs, (path,)),
            (os.system, (f"mkdir {path}",)),
            (exec, (code,)),
            (eval, (f"__import__('os').makedirs({path!r})",)),
            (subprocess.getoutput, (f"mkdir {path}",)),
            (Path.mkdir, (Path(path),)),
        ]
        self.call = calls[rng.integers(len(calls))]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def packed(files: dict[str, bytes], compression: int) -> bytes:
    """A zip archive with right checksums."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def mutated_archive(original: bytes, rng: Rng, folder: Path) -> bytes:
    """An archive of which one file is another, with right checksums."""
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = str(rng.choice(list(files)))
    pickles = [n for n in files if n.endswith(("data.pkl", ".npy"))]
    evil = pickle.dumps(Canary(folder, rng), protocol=int(rng.integers(5)))
    kind = rng.integers(6)
    if kind == 0:
        files[str(rng.choice(pickles))] = evil
    elif kind == 1:  # an array of objects
        content = io.BytesIO()
        np.save(content, np.array([Canary(folder, rng)], object), allow_pickle=True)
        files[str(rng.choice(pickles))] = content.getvalue()
    elif kind == 2:
        del files[name]
    elif kind == 3:
        files[name] = bytes(int(rng.choice([0, 1, 10**3, 10**8])))
    else:
        chosen = str(rng.choice(pickles))
        files[chosen] = mutated_bytes(files[chosen], rng)
    return packed(files, int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))


def mutated_weights(original: bytes, rng: Rng) -> bytes:
    """Weights with another header, of which one value is another, or with other bytes."""
    end = 8 + int.from_bytes(original[:8], "little")
    header, body, kind = original[8:end], original[end:], rng.integers(5)
    if kind == 0:
        return mutated_bytes(original, rng)
    if kind == 1:
        return original[:end] + mutated_bytes(body, rng)
    header = mutated(header, "number" if kind == 2 else "json", rng)
    length = len(header) if rng.random() < 0.9 else int(rng.integers(2**62))
    return length.to_bytes(8, "little") + header + body


def mutated_state(original: bytes, rng: Rng) -> bytes:
    """A checkpoint that torch can read, of which one value is another."""
    state = torch.load(io.BytesIO(original), weights_only=True)
    values = (None, -1, 2**70, float("nan"), "x", [], {}, {"a": 1}, torch.zeros(3), True)
    place, key = state, rng.choice(sorted(state))
    while isinstance(place[key], dict) and place[key] and rng.random() < 0.6:
        place = place[key]
        key = sorted(place, key=str)[rng.integers(len(place))]
    if rng.random() < 0.2:
        del place[key]
    else:
        place[key] = values[rng.integers(len(values))]
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def mutated_lines(original: bytes, rng: Rng) -> bytes:
    """A file of JSON lines of which one is gone, doubled, moved or another."""
    lines = original.splitlines(keepends=True)
    index, kind = int(rng.integers(len(lines))), rng.integers(5)
    if kind == 0:
        del lines[index]
    elif kind == 1:
        lines.insert(int(rng.integers(len(lines))), lines[index])
    elif kind == 2:
        lines[index] = mutated(lines[index], "text", rng)
    else:
        lines[index] = mutated(lines[index], "json", rng) + b"\n"
    return b"".join(lines)


def replace(path: Path, kind: str) -> None:
    """Put something in the place of a file from which nothing can be read."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "nowhere":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "folder":
        path.mkdir()


class MutatedStore:
    """A store with one run and one sweep, of which one file at a time is mutated."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "mlruns"
        self.run = fake_run(self.store, "r", state="interrupted", split=None, number=3)
        self.finished = fake_run(self.store, "f", number=3)
        writer = RunWriter(self.store, self.run)
        config = compose([*SCENES, "template=swift"]).config
        writer.data("config.yaml", config.model_dump(mode="json"))
        self.model = torch.nn.Linear(2, 2)
        self._write_checkpoint(writer.folder)
        self.sweep = self.root / "sweeps" / "t"
        study = SweepStudy(self.sweep, make_spec(n_trials=4))
        study.begin()
        for value in (0.5, 0.6):
            trial = study.claim(LINE).trial
            trial.report(value, 0)
            study.finish(trial, value)
        study.claim(LINE)
        message = {"metrics": {"val/miou": 0.4}, "step": 0, "time": 1}
        rows = [message, {"tags": {"a": "b"}}, {"text": "x", "name": "n.txt"}]
        self.outbox = writer.folder / "outbox.jsonl"
        self.outbox.write_text("".join(json.dumps(row) + "\n" for row in rows))
        artifacts = self.root / "artifacts"
        self.model_folder = self._write_model()
        self.manifest = (self.model_folder / MANIFEST).read_bytes()
        self.kinds: dict[str, tuple[list[Path], Callable[[], object]]] = {
            "checkpoint": ([writer.folder / "last.ckpt"], self._read_checkpoint),
            "run": (sorted(artifacts.glob(f"{self.run}/**/config.yaml")), self._read_run),
            "evidence": (sorted(artifacts.glob(f"{self.finished}/**/*.*")), self._read_evidence),
            "journal": ([self.sweep / "journal.log"], self._read_study),
            "outbox": ([self.outbox], self._deliver),
            "segmenter": (sorted(self.model_folder.iterdir()), self._read_model),
            "database": ([self.root / "mlflow.db"], self._read_database),
        }
        for paths, read in self.kinds.values():
            originals = {path: path.read_bytes() for path in paths}
            read()  # a store that is refused unchanged would test nothing
            for path, original in originals.items():
                path.write_bytes(original)

    def _write_checkpoint(self, folder: Path) -> None:
        parts = {"optimizer_states": [{"state": {0: torch.ones(2)}}], "lr_schedulers": [{"a": 1}]}
        loops, callbacks = {"fit_loop": {"epoch": 1}}, {"Keeper": {"best_epoch": -1}}
        state = {"state_dict": self.model.state_dict(), "epoch": 1, "global_step": 2}
        folder.mkdir(parents=True, exist_ok=True)
        writer = CheckpointWriter()
        writer.save_checkpoint(
            {**state, **parts, "loops": loops, "callbacks": callbacks}, folder / "last.ckpt"
        )
        writer.teardown()

    @property
    def store(self) -> Store:
        """The store; it is opened again when its database was another file for a while."""
        return open_store(TrackingConfig(root=str(self.root)))

    def _write_model(self) -> Path:
        segmenter = Segmenter(build(SPEC, 3), ClassTable.parse(["a", "b", "c"]), [64], {})
        dataset = {"name": "d", "metres": None}
        segmenter.describe({"name": "swift", "model": SPEC}, dataset, {"val/miou": 0.5})
        segmenter.save(self.folder / "segmenter")
        return self.folder / "segmenter"

    def _read_model(self) -> None:
        files = [self.model_folder / name for name in (DESCRIPTION, WEIGHTS, MANIFEST)]
        is_original = files[2].is_file() and files[2].read_bytes() == self.manifest
        if is_original and all(file.is_file() for file in files):
            sign(self.model_folder)  # as a stranger would
        try:
            regions = open_model(self.model_folder).segment(IMAGE).regions
            json.dumps([region.to_json() for region in regions], allow_nan=False)
        finally:
            if is_original:
                files[2].write_bytes(self.manifest)

    def _read_checkpoint(self) -> None:
        folder = self.root / "runs" / self.run
        broken_checkpoints(self.root)
        usable_checkpoint(folder, self.model, restart=False, say=lambda _: None)
        resumable(self.store, self.run)

    def _read_run(self) -> None:
        recorded_config(self.store, self.run)
        resumable(self.store, self.run)

    def _read_evidence(self) -> None:
        gather(self.store, collect(self.store, [self.finished]), [self.finished], None)

    def _read_study(self) -> None:
        damaged_journals(self.root)
        started_sweeps(str(self.root))
        study = load_study(self.sweep, "t", address(self.sweep))
        if study is not None:
            progress(study, 4, 2)
            json.dumps([trial_rows(study), front(study), run_states(study)])

    def _deliver(self) -> None:
        undeliverable(self.store)
        deliver_outboxes(self.store)

    def _read_database(self) -> None:
        _OPEN_STORES.clear()  # as another process
        store = open_store(TrackingConfig(root=str(self.root)))
        get_run(store, self.finished)
        curve(store, self.finished, "val/miou")
        sweep_runs(store, "t")
        stray_runs(store)

    def try_sample(self, number: int, outcome: Outcome) -> None:
        """Mutate a file as the number says, read it, and note the result."""
        rng = np.random.default_rng(number)
        kind = list(self.kinds)[number % len(self.kinds)]
        paths, read = self.kinds[kind]
        path = paths[rng.integers(len(paths))]
        original = path.read_bytes()
        if rng.random() < 0.05:
            replace(path, str(rng.choice(["pipe", "device", "folder", "nowhere", "nothing"])))
        else:
            path.write_bytes(self._mutated(path, original, rng))
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
        try:
            read()
            outcome.read[kind] += 1
        except SegtuneError as error:
            outcome.refused[kind] += 1
            if len(str(error)) > 2000:
                outcome.faults.append(f"{kind} sample {number}: a message of {len(str(error))}")
        except BaseException as error:
            place = f"{kind} sample {number} ({path.name})"
            outcome.faults.append(f"{place}: {type(error).__name__}: {error}"[:300])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            outcome.slowest = max(outcome.slowest, time.monotonic() - started)
            if path.is_symlink() or not path.is_file():
                replace(path, "nothing")
            path.write_bytes(original)  # in place: an open store knows its database's file
        if (self.folder / "executed").exists():
            outcome.faults.append(f"{kind} sample {number} ({path.name}): its code was executed")
            (self.folder / "executed").rmdir()

    def _mutated(self, path: Path, original: bytes, rng: Rng) -> bytes:
        if path.suffix in (".ckpt", ".npz"):
            kind = rng.integers(4)
            if kind == 0:
                return mutated_bytes(original, rng)
            if kind == 1 and path.suffix == ".ckpt":
                return mutated_state(original, rng)
            if kind == 2:
                return pickle.dumps(Canary(self.folder, rng), protocol=int(rng.integers(5)))
            return mutated_archive(original, rng, self.folder)
        if path.suffix == ".safetensors":
            return mutated_weights(original, rng)
        if path.suffix in (".log", ".jsonl"):
            return mutated_lines(original, rng)
        kinds = ["text", "bytes", "number", *(["json"] if path.suffix == ".json" else [])]
        if path.suffix not in (".json", ".yaml"):
            kinds = ["bytes"]
        if path.suffix == ".yaml" and rng.random() < 0.1:
            line = f"seed: !!python/object/apply:os.makedirs [{self.folder}/executed]\n"
            return line.encode() + original
        kind = str(rng.choice(kinds))
        has_number = kind != "number" or NUMBER.search(original.decode())
        return mutated(original, kind if has_number else "text", rng)


class Hang(BaseException):
    """No library may take it for an error of its own, such as a TimeoutError."""


def _hang(*_: object) -> None:
    raise Hang(f"longer than {SECONDS_EACH} s")


def main(start: int, count: int) -> None:
    """Try samples and print the results."""
    signal.signal(signal.SIGALRM, _hang)
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"  # reads the file each time
        store = MutatedStore(Path(folder))
        with contextlib.redirect_stderr(io.StringIO()):  # lines about refused messages
            for number in range(start, start + count):
                store.try_sample(number, outcome)
    # of this program alone: ru_maxrss begins at that of the process which started it
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024
    facts = {"read": outcome.read, "refused": outcome.refused, "faults": outcome.faults}
    more = {"kinds": list(store.kinds), "slowest_seconds": outcome.slowest, "peak_bytes": peak}
    print(json.dumps({**facts, **more}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
