"""A user's dataset is imported, checked, repaired, trained on, and watched during a sweep."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segtune
from segtune.cli.main import main
from segtune.config.commands import command
from segtune.config.compose import compose
from segtune.data.audit import audit
from segtune.data.batches.cache import load_split
from segtune.data.sources import open_source
from segtune.errors import DataError
from segtune.report.check_page import write_page
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import load_spec
from segtune.sweeping.trial import run_trial
from tests.conftest import SCENES, TINY, tiny_without, write_pairs
from tests.data.drawn_scenes import image_path, mask_path
from tests.data.seeded_faults import unknown
from tests.data.test_audit import open_roads
from tests.data.test_audit import root as root  # the fixture of clean pairs

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SHORT = [
    "template=swift",
    "trainer=debug",
    "augment=light",
    "hp.width=16",
    "hp.image_size=[64]",
    "hp.batch_size=4",
]
SHORT += ["hp.num_epochs=2", "hp.per_item_lrate=1e-3"]


def street(tmp_path: Path) -> Path:
    """Copy small street scenes, so that a test may change them."""
    source = open_source(compose(SCENES).config.dataset)
    target = tmp_path / "my scenes"
    shutil.copytree(source.root, target)
    return target


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_import_check_fix_and_train_on_the_command_line(root, tmp_path, capsys):
    """A folder with three faults, in a path with a space."""
    unknown(root)
    image_path(root, 6).write_bytes(b"broken")
    Image.open(mask_path(root, 7)).crop((0, 0, 9, 9)).save(mask_path(root, 7))
    classes = (
        "dataset.classes=[{name: ground, color: [0,0,0]}, {name: car, color: [200,30,30]}, tree]"
    )
    words = ["dataset=folder", f"dataset.root='{root}'", classes]
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    code, report = call(capsys, "check", *words, "--fix")
    assert code == 3 and report["refused"]
    assert {f["kind"] for f in report["findings"]} == {
        "unknown_ids",
        "unreadable_image",
        "size_mismatch",
    }
    assert all(f["repair"] and f["effect"] and f["files"] for f in report["findings"])
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    fixed = f"dataset.fixes='{report['fixes']}'"
    code, report = call(capsys, "check", *words, fixed)
    assert code == 0 and report["findings"] == []
    code, imported = call(capsys, "import", str(root), "output=clean", classes, fixed)
    assert (
        code == 0
        and imported["format"] == "folder"
        and imported["images"] == {"train": 22, "val": 8}
    )
    code, report = call(capsys, "check", "dataset=folder", "dataset.root=clean")
    assert code == 0 and report["findings"] == []
    code, run = call(capsys, "train", "dataset=folder", "dataset.root=clean", *SHORT)
    assert code == 0 and run["state"] == "finished"


def test_a_missing_option_is_named(root, capsys):
    assert main(["import", str(root)]) == 2
    assert "output=DIR" in capsys.readouterr().err
    assert main(["import", str(root), "output=x", "hp.width=3"]) == 2
    assert "hp.width: no such key of 'import'" in capsys.readouterr().err
    assert main(["import", str(root), "output=x", "fromat=coco"]) == 2
    assert "did you mean 'format'?" in capsys.readouterr().err
    assert main(["check", "dataset=street", "--labels"]) == 2
    assert "run=RUN" in capsys.readouterr().err
    assert main(["check", "dataset=folder", "dataset.root=nowhere"]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert (
        main(
            [
                "check",
                "dataset=folder",
                f"dataset.root='{root}'",
                "dataset.classes=[a,b,c]",
                "dataset.fixes=x",
            ]
        )
        == 2
    )
    assert "segtune check --fix dataset=folder" in capsys.readouterr().err


def test_an_import_never_overwrites_its_source_or_a_folder_that_is_no_import(
    root, tmp_path, capsys
):
    classes = "dataset.classes=[ground,car,tree]"
    before = sorted(root.rglob("*"))
    for target, words in (
        (root, "which would be deleted"),
        (tmp_path, "which would be deleted"),
        (root / "..", "be deleted"),
    ):
        assert main(["import", str(root), f"output={target}", classes, "overwrite=true"]) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "letters").mkdir()
    assert main(["import", str(root), "output=letters", classes, "overwrite=true"]) == 2
    assert "is no earlier import" in capsys.readouterr().err
    for _ in range(2):
        assert main(["import", str(root), "output=roads", classes, "overwrite=true"]) == 0
    assert sorted(root.rglob("*")) == before


def test_training_skips_unreadable_images_and_reports_them(root, tmp_path):
    image_path(root).write_bytes(b"broken")
    lines: list[str] = []
    classes = "dataset.classes=[ground,car,tree]"
    result = segtune.train(
        "dataset=folder", f"dataset.root='{root}'", classes, *SHORT, say=lines.append
    )
    assert result.state == "finished" and any(line.startswith("left out: 005: ") for line in lines)
    image_path(root, 6).write_bytes(b"broken")
    with pytest.raises(DataError, match="more than 5 % of the 24 pairs"):
        segtune.train("dataset=folder", f"dataset.root='{root}'", classes, *SHORT, say=lines.append)


def test_training_reports_classes_without_pixels(root):
    lines: list[str] = []
    classes = "dataset.classes=[ground,car,tree,boat]"
    segtune.train("dataset=folder", f"dataset.root='{root}'", classes, *SHORT, say=lines.append)
    assert any(
        f"boat: in no train mask, so cannot be learned; see: {command('check')}" in line
        for line in lines
    )


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    scenes = street(tmp_path)
    words = [*TINY, f"dataset.root='{scenes}'", "hp.num_epochs=3"]

    class Stopped(Exception):
        pass

    from segtune.training.fit import fit
    from segtune.training.request import RunHooks

    def stop_after_a_checkpoint(epoch: int, metrics: object) -> bool:
        if epoch == 2:
            raise Stopped
        return False

    with pytest.raises(Stopped):
        fit(compose(words).config, hooks=RunHooks(on_epoch=stop_after_a_checkpoint))
    run = next(p.name for p in (tmp_path / "mlruns" / "runs").iterdir())
    mask = next((scenes / "masks" / "train").glob("*.png"))
    Image.fromarray(np.zeros_like(np.array(Image.open(mask)))).save(mask)
    with pytest.raises(
        DataError, match=r"the train split of 'street' has changed since run \w+ began"
    ):
        segtune.train(f"resume={run}")


def test_a_sweep_whose_data_changes_stops(tmp_path):
    scenes = street(tmp_path)
    spec_file = tmp_path / "s.yaml"
    spec_file.write_text(
        "# Question: does it stop?\nn_trials: 4\nsearch: {hp.width: [16, 24, 32, 40]}\n"
    )
    spec = load_spec(str(spec_file), [*tiny_without("hp.width"), f"dataset.root='{scenes}'"])
    study, space = SweepStudy(tmp_path / "study", spec), build_space(spec)
    study.check_identity(
        {"dataset": open_source(compose(spec.overrides).config.dataset).fingerprint()}
    )
    study.begin()
    run_trial(study, study.claim(space), "", 1, StopRequest(), lambda line: None)
    assert study.counts().finished == 1
    mask = next((scenes / "masks" / "val").glob("*.png"))
    Image.fromarray(np.zeros_like(np.array(Image.open(mask)))).save(mask)
    with pytest.raises(DataError, match="has changed while sweep 's' runs"):
        run_trial(study, study.claim(space), "", 1, StopRequest(), lambda line: None)
    assert (study.counts().finished, study.counts().failed) == (
        1,
        0,
    )  # the trial waits for the data to come back


@pytest.mark.slow
@pytest.mark.ci
def test_wrong_masks_rank_first_among_label_issues(tmp_path):
    """Three of 24 val masks are upside down; a model that did not see them ranks them first."""
    scenes = "{width:96,height:64,train:24,val:24,test:2,clips:0,seed:3}"
    source = open_source(compose(["dataset=street", f"dataset.street={scenes}"]).config.dataset)
    root = tmp_path / "scenes"
    shutil.copytree(source.root, root)
    wrong = ["00003", "00011", "00019"]
    for name in wrong:
        path = root / "masks" / "val" / f"{name}.png"
        Image.fromarray(np.array(Image.open(path))[::-1]).save(path)
    words = ["dataset=street", f"dataset.street={scenes}", f"dataset.root='{root}'"]
    short = [w for w in SHORT if "num_epochs" not in w and "trainer" not in w]
    run = segtune.train(
        *words,
        *short,
        "hp.num_epochs=12",
        "trainer=cpu",
        "trainer.threads=1",
        say=lambda line: None,
    )
    ranked = segtune.rank_labels([run.run_id], *words)
    assert {r.name for r in ranked.rows[:3]} == set(wrong)
    assert (
        all(r.out_of_fold and r.split == "val" for r in ranked.rows[:3]) and len(ranked.rows) == 48
    )
    assert not any(r.out_of_fold for r in ranked.rows if r.split == "train")
    assert "00003" in ranked.page.read_text()


@pytest.mark.skipif(BROWSER is None, reason="needs a headless browser: apt-get install chromium")
def test_the_page_of_a_check_opens_from_disk_without_an_error_or_a_request(root, tmp_path):
    unknown(root)
    image_path(root, 6).rename(image_path(root, 6).with_name("<script>alert(1)<.png"))
    mask_path(root, 6).rename(mask_path(root, 6).with_name("<script>alert(1)<.png"))
    Image.open(mask_path(root, 8)).crop((0, 0, 9, 9)).save(mask_path(root, 8))
    page = write_page(audit(open_roads(root), [60]), tmp_path / "a page")
    words = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    words += [
        "--virtual-time-budget=8000",
        f"--user-data-dir={tmp_path / 'profile'}",
        page.as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert len(re.findall(r'class="plot[^"]*js-plotly-plot', done.stdout)) == 2
    shown = html.unescape(re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL))
    assert "77 (15 px)" in shown and "image 80 x 60, mask 9 x 9" in shown


@pytest.mark.parametrize(("tolerance", "refused"), [(0.05, True), (0.07, False)])
def test_check_and_training_count_bad_images_in_the_same_way(tmp_path, tolerance, refused):
    """One of 16 train images is broken: more than 5 % of its split, and less than 5 % of all 24."""
    root = tmp_path / "roads"
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        pairs = [
            (
                rng.integers(0, 256, (64, 64, 3), np.uint8),
                rng.integers(0, 2, (64, 64)).astype(np.uint8),
            )
            for _ in range(count)
        ]
        write_pairs(root, split, pairs)
    next((root / "images" / "train").iterdir()).write_bytes(b"broken")
    words = [
        "dataset=folder",
        f"dataset.root={root}",
        "dataset.classes=[ground,car]",
        f"dataset.tolerance={tolerance}",
    ]
    checked = segtune.check(*words)
    assert checked.audit.refused == refused
    assert "BytesIO" not in "\n".join(checked.lines())
    source = open_source(compose(words).config.dataset)
    if refused:
        with pytest.raises(DataError, match="none of the known image formats"):
            load_split(source, "train", [64])
    else:
        assert len(load_split(source, "train", [64])) == 15
