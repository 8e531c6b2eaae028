"""Each command of README and docs/ has a verb, options and keys that exist, and works.

Commands within a sentence are checked; those in a block of code are also run, in the order of the
pages, unless the line above the block says why not: `<!-- not run: REASON -->`. The same holds for
the Python of a page that shows commands.
"""

import io
import re
import shutil
from functools import partial
from pathlib import Path

import pytest

import segtune
from segtune.api.workflows import read_workflow
from segtune.cli.main import main
from segtune.cli.parsing import parse
from segtune.cli.verbs import VERBS
from segtune.config.compose import compose
from segtune.config.conf_files import load_gate
from segtune.config.dataset_schema import StreetConfig
from segtune.config.schema import TrackingConfig
from segtune.data.street.files import write_dataset
from segtune.sweeping.spec import load_spec, sweep_names
from segtune.tracking.runs import search_runs
from segtune.tracking.store import open_store
from tests.conftest import OPEN_GATE, SCENES
from tests.contracts.shown_commands import (
    PAGES,
    ROOT,
    Shown,
    other_commands,
    python_blocks,
    shown_commands,
)

SHOWN = [shown for page in PAGES for shown in shown_commands(page)]
# words that stand for something of the reader's
STAND_INS = {
    "NAME": "quickstart",
    "dataset=NAME": "dataset=street",
    "plan=POINTS": "plan=0.5",
}
FIRST_HOUR = ROOT / "docs/first_hour.md"
SHORT_PAGES = ("datasets.md", "sweeps.md")  # the others repeat what `make demo` does, in minutes
# after the words of a command: small data, one epoch
SHORT = [
    "trainer=debug",
    "trainer.minutes=null",
    "augment=light",
    "hp.image_size=[64]",
    "hp.batch_size=3",
    "hp.num_epochs=1",
]
SHORTENED = {
    "train": SHORT,
    "sweep": [*SHORT, "sweep.n_trials=2", "sweep.workers=1"],
    "confirm": ["top=1", "seeds=1"],
    "promote": OPEN_GATE,
    "auto": [*OPEN_GATE, "template=swift", "hp.width=16", "minutes=1"],
}

# commands that give a page the models and sweeps that it starts from
BEFORE = {
    "predicting.md": ["train dataset=street", "promote RUN model=street"],
    "training.md": ["train dataset=street", "promote RUN model=street"],
    "sweeps.md": ["sweep quickstart"],
}


def is_run(shown: Shown) -> bool:
    """Whether a test runs a command; compose_words says who runs those with plugins."""
    runs_elsewhere = "plugins=" in shown.text or shown.text.startswith("VERB")
    return shown.in_block and not shown.reason and not runs_elsewhere


EXTENDING = ROOT / "docs/extending.md"  # tests/plugins/test_extending.py runs its examples
RUN = [
    page
    for page in PAGES
    if any(map(is_run, shown_commands(page))) or (python_blocks(page) and page != EXTENDING)
]


def test_the_pages_show_commands_of_most_verbs():
    shown = {command.words[0] for command in SHOWN if command.words}
    assert len(SHOWN) > 80
    assert len(shown & set(VERBS)) > len(VERBS) / 2


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_each_command_of_a_page_composes(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # `segtune config --schema` writes files
    for shown in shown_commands(page):
        try:
            compose_words([STAND_INS.get(word, word) for word in shown.words])
        except Exception as error:
            raise AssertionError(f"{shown.place}: segtune {shown.text}: {error}") from error


def compose_words(words: list[str]) -> None:
    """Check a command as far as it goes without running it."""
    name, *rest = words
    if name == "VERB" or name.startswith("--"):
        return
    if any(word.startswith("plugins=") for word in rest):
        # tests/plugins/test_extending.py runs them with the parts that they name
        parse(name, VERBS[name], [word for word in rest if not names_part(name, word)])
        return
    call = parse(name, VERBS[name], rest)
    overrides = list(call.overrides)
    if name == "sweep" and call.names:
        known = call.names[0] in sweep_names()
        spec = load_spec(call.names[0] if known else "quickstart", overrides)
        compose(spec.base)
    elif "gate" in VERBS[name].passes:
        load_gate([word for word in overrides if word.startswith("gate")])
    elif "workflow" in VERBS[name].passes:
        read_workflow(call.options.get("workflow", "driving"), overrides)
    elif "*" in VERBS[name].passes or "dataset" in VERBS[name].passes:
        compose(overrides)
    elif name in ("config", "templates") and STAND_INS["NAME"] not in call.names:
        VERBS[name].run(call)


def names_part(verb: str, word: str) -> bool:
    """Whether a word names a plugin, or may name a part of one."""
    option = VERBS[verb].option(word.partition("=")[0])
    return word.startswith("plugins=") or bool(option and option.group)


# the beginning of a line -> the file that runs it
RUN_BY = {"make ": ".ci/run", "curl ": "tests/serving/test_shown.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_each_line_of_another_program_is_run_or_says_why_not(page):
    for shown in other_commands(page):
        runner = next((path for start, path in RUN_BY.items() if shown.text.startswith(start)), "")
        what = shown.text.partition("  #")[0] if runner == ".ci/run" else page.name
        assert shown.reason or (runner and what in (ROOT / runner).read_text()), shown.place


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """The folder of a reader with labels, photos, clips and a sweep file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEGTUNE_DATA", raising=False)
    scenes = StreetConfig(width=96, height=64, train=12, val=4, test=4, clips=1, clip_frames=5)
    write_dataset(tmp_path / "drawn", scenes, say=lambda line: None)
    shutil.copytree("drawn/images/train", "labels/images")
    shutil.copytree("drawn/masks/train", "labels/masks")
    shutil.copytree("drawn/images/test", "photos")
    shutil.copytree("drawn/clips", "clips")
    shutil.copy("drawn/images/test/00000.png", "photo.jpg")
    shutil.copy("drawn/clips/clip_00.mp4", "drive.mp4")
    Path("sweeps").mkdir()
    text = re.search(r"```yaml\n(.*?)```", FIRST_HOUR.read_text(encoding="utf-8"), re.DOTALL)[1]
    for name in ("roads", "my_sweep"):
        Path("sweeps", f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=[pytest.mark.ci] * (p.name in SHORT_PAGES)) for p in RUN],
)
def test_each_command_in_a_block_of_a_page_works(page, workspace, monkeypatch, capsys):
    photo = Path("photo.jpg").read_bytes()
    before = [Shown("preparation", text, in_block=True) for text in BEFORE.get(page.name, [])]
    for shown in [*before, *filter(is_run, shown_commands(page))]:
        words = [replaced(word) for word in shown.words]
        for word in words:
            if word.startswith("output="):  # of another way to do the same
                shutil.rmtree(word.removeprefix("output="), ignore_errors=True)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photo)))
        words += SHORTENED.get(words[0], [])
        if "dataset=street" in words or words[:2] == ["sweep", "quickstart"]:
            words.append(SCENES[1])
        code = main(words)
        printed = capsys.readouterr()
        assert code == 0, f"{shown.place}: segtune {' '.join(words)}\n{printed.err}"
    if page != EXTENDING:
        run_python(page, monkeypatch)


def run_python(page, monkeypatch):
    """Run the Python of a page, on small data as its commands."""
    for verb in ("sweep", "promote"):
        words = [*SHORTENED[verb], *([SCENES[1]] if verb == "sweep" else [])]
        monkeypatch.setattr(segtune, verb, partial(with_words, getattr(segtune, verb), words))
    for text in python_blocks(page):
        exec(compile(text, page.name, "exec"), {"__name__": page.stem})


def with_words(function, words, *arguments):
    return function(*arguments, *words)


def replaced(word: str) -> str:
    """Return a word with the reader's own name in place of one that stands for it."""
    if word not in ("RUN", "model=FOLDER"):
        return STAND_INS.get(word, word)
    run = max(search_runs(open_store(TrackingConfig()), {}), key=lambda r: r.started)
    return run.id if word == "RUN" else f"model=runs:/{run.id}"
