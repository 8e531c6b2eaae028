"""A researcher's first day: from annotations to an exported champion.

Each step runs the command that the previous step printed, in a folder with a space in its name.
"""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segtune.cli.main import main
from segtune.sweeping.records import load_study
from tests.data.annotation_sets import write_cvat, write_labelme, write_voc

SIDE = 64
SETTINGS = ["trainer=debug", "augment=light", "tracking.overlays=1", "hp.image_size=[64]"]
SETTINGS += ["hp.batch_size=4", "hp.per_item_lrate=1e-3"]
SETTINGS += ["template=swift", "hp.width=16", "hp.depth=1"]
FREE_GATE = ["gate.max_ece=null", "gate.max_class_drop=null"]


def write_coco(folder: Path, count: int = 16) -> None:
    """Photos of one bright car each, whose places differ, with a road below; COCO run lengths."""
    folder.mkdir()
    images, annotations = [], []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.integers(40, 200, (8, 8, 3), dtype=np.uint8)  # no two photos look alike
        pixels = coarse.repeat(SIDE // 8, 0).repeat(SIDE // 8, 1)
        ids = np.zeros((SIDE, SIDE), np.uint8)
        ids[40:] = 1
        top, left = rng.integers(4, 20), rng.integers(4, 40)
        ids[top : top + 16, left : left + 16] = 2
        pixels[ids == 1] //= 3
        pixels[ids == 2, 0] = 250
        name = f"photo_{number:02d}.png"
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
        for label in (1, 2):
            run_lengths = coco_mask.encode(np.asfortranarray((ids == label).astype(np.uint8)))
            area = {"size": run_lengths["size"], "counts": run_lengths["counts"].decode()}
            row = {"id": len(annotations), "image_id": number, "category_id": label, "iscrowd": 0}
            annotations.append(row | {"segmentation": area})
    categories = [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}]
    table = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(table))


class Terminal:
    """A terminal: runs commands and keeps the last output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.printed = ""

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command in this process and return its standard output."""
        self.capsys.readouterr()
        status = main(list(words))
        shown = self.capsys.readouterr()
        assert status == code, shown.out + shown.err
        self.printed = shown.out
        return shown.out

    def follow(self, verb: str, *more: str, code: int = 0) -> str:
        """Run the command of this verb that the last command printed."""
        return self.run(*following(self.printed, verb), *more, code=code)


def following(text: str, verb: str) -> list[str]:
    """Return the words, after the program's name, of the last `next:` command of a verb."""
    for line in reversed(text.splitlines()):
        _, marked, command = line.partition("next: ")
        words = shlex.split(command, comments=True) if marked else []
        if verb in words:
            return words[words.index(verb) :]
    raise AssertionError(f"no command of {verb} in:\n{text}")


def interrupted(*words: str, until: str) -> str:
    """Run a command in a process, press Ctrl-C at a line, and return the lines after that."""
    command = [sys.executable, "-m", "segtune", *words]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if until in line:
                break
        process.send_signal(signal.SIGINT)
        return process.stderr.read()


def write_sweep(name: str, *words: str) -> None:
    Path("sweeps").mkdir()
    space = {"loss": ["ce", "ce_dice"]}
    sweep = {"n_trials": 2, "workers": 1, "sampler": "grid", "pruner": "none", "search": space}
    sweep["overrides"] = [*words, *SETTINGS, "hp.num_epochs=1"]
    text = f"# Question: which loss suits my roads?\n{json.dumps(sweep)}"
    Path("sweeps", f"{name}.yaml").write_text(text)


@pytest.mark.slow  # 80 s on a quiet machine
@pytest.mark.ci
@pytest.mark.timeout(600)
def test_each_step_runs_the_command_that_the_previous_step_printed(tmp_path, monkeypatch, capsys):
    work = tmp_path / "my work"
    work.mkdir()
    monkeypatch.chdir(work)
    terminal = Terminal(capsys)
    for write in (write_voc, write_labelme, write_cvat):
        write(work / write.__name__)
        terminal.run("import", write.__name__, f"output=from {write.__name__}")
        terminal.follow("check")

    write_coco(work / "labels")
    terminal.run(
        "import", "labels", "output=my roads", "dataset.splits.val=0.25", "dataset.splits.test=0.25"
    )
    terminal.follow("check")

    words = following(terminal.printed, "train")
    message = interrupted(*words, *SETTINGS, "hp.num_epochs=12", until="epoch 2/12")
    resume = following(message.replace("Continue from its last checkpoint: ", "next: "), "train")
    assert any(word.startswith("resume=") for word in resume)
    text = terminal.run(*resume)
    assert "finished" in text

    write_sweep("roads", *words[1:])
    terminal.run("sweep", "roads")
    study = load_study(work / "mlruns" / "sweeps" / "roads", "roads")
    assert [trial.state.name for trial in study.trials].count("COMPLETE") == 2
    terminal.follow("compare")
    assert (work / "mlruns" / "reports" / "roads" / "index.html").is_file()
    terminal.follow("confirm", "top=1", "seeds=1")
    terminal.follow("evaluate")
    terminal.follow("promote", *FREE_GATE)
    promoted = terminal.printed
    predict = following(promoted, "predict")
    predict = [w for w in predict if not w.startswith(("source=", "output="))]
    terminal.run(*predict, "source=labels/photo_00.png", "output=seen in my roads")
    assert (work / "seen in my roads" / "regions.json").is_file()
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install 'segtune[export]'")
    terminal.run(*following(promoted, "export"))
