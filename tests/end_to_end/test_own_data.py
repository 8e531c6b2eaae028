"""With a user's own data, printed commands run as printed, and runs keep their task."""

import shlex

import pytest
import yaml

import segtune
from segtune.cli.main import main
from segtune.config.commands import program
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.errors import DataError, Interrupted
from segtune.report.confirm import confirm
from segtune.runtime.signals import StopRequest
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store
from segtune.training.fit import fit
from segtune.training.request import RunHooks, RunRequest
from tests.data.annotation_sets import write_coco

QUIET = {"say": lambda _: None}
SHORT = [
    "template=swift",
    "trainer=debug",
    "hp.width=16",
    "hp.image_size=[32]",
    "hp.batch_size=2",
    "hp.num_epochs=2",
]
OWN = ["dataset=folder", "dataset.root=my roads"]


@pytest.fixture
def roads(tmp_path):
    """What `segtune import` wrote, one class of which is ignored since."""
    (tmp_path / "my labels").mkdir()
    write_coco(tmp_path / "my labels")
    assert main(["import", "my labels", "output=my roads"]) == 0
    path = tmp_path / "my roads" / "classes.yaml"
    path.write_text(
        yaml.safe_dump(
            {**yaml.safe_load(path.read_text()), "ignore": [255, 0], "groups": "^[^_]+_."}
        )
    )
    return path.parent


def printed(text: str, verb: str) -> list[str]:
    """The words of the last command of this verb in a text, as a shell reads them."""
    start = f"{shlex.join(program())} {verb}"
    line = [line for line in text.splitlines() if start in line][-1]
    return shlex.split(line[line.index(start) :], comments=True)[len(program()) :]


def run_printed(capsys, text: str, verb: str, code: int = 0) -> str:
    """Runs a printed command as it is; returns what it says."""
    assert main(printed(text, verb)) == code, capsys.readouterr()
    captured = capsys.readouterr()
    return captured.out + captured.err


def interrupted(words: list[str]) -> str:
    stop = StopRequest()

    def ask(epoch, metrics):
        stop.requested = True
        return False

    with pytest.raises(Interrupted) as error:
        fit(compose(words).config, hooks=RunHooks(on_epoch=ask), stop=stop)
    return str(error.value)


def test_a_run_on_imported_data_is_resumed_measured_and_confirmed_on_its_own_task(
    roads, tmp_path, monkeypatch, capsys
):
    words = [*OWN, *SHORT]
    message = interrupted(words)
    run = printed(message, "train")[1].removeprefix("resume=")
    (roads / "classes.yaml").rename(roads / "gone.yaml")  # the run recorded what it says
    capsys.readouterr()
    done = run_printed(capsys, message, "train")
    assert f"run {run} finished" in done
    monkeypatch.chdir("/")
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    place = f"tracking.root={store.root}"
    evidence = segtune.evaluate(run, place, **QUIET)
    assert (
        evidence.origin.classes == ("background", "car", "tree")
        and evidence.origin.dataset == "folder"
    )
    assert evidence.scores.miou == pytest.approx(get_run(store, run).miou)
    assert main(["check", "--labels", f"run={run}", place, f"output={tmp_path}/page"]) == 0
    config = yaml.safe_load(
        (store.root / "artifacts" / run / "artifacts" / "config.yaml").read_text()
    )
    assert config["dataset"]["ignore"] == [255, 0] and config["dataset"]["root"] == str(roads)


def test_confirm_trains_the_task_of_the_trials_and_refuses_other_data(roads, tmp_path, monkeypatch):
    tags = {"segtune.kind": "trial", "segtune.sweep": "s"}
    trial = fit(compose([*OWN, *SHORT]).config, RunRequest("s-0", tags))
    store = open_store(TrackingConfig())
    (roads / "classes.yaml").unlink()
    monkeypatch.chdir("/")
    fresh = confirm(store, "s", top=1, seeds=1, say=lambda _: None)
    run = get_run(store, fresh.report.facts["candidates"][0]["runs"][0]["run"])
    then = get_run(store, trial.run_id)
    assert [run.tags[t] for t in ("segtune.dataset", "segtune.dataset.train")] == [
        then.tags[t] for t in ("segtune.dataset", "segtune.dataset.train")
    ]
    image = next((roads / "images" / "train").iterdir())
    image.write_bytes((roads / "images" / "val").glob("*").__next__().read_bytes())
    with pytest.raises(
        DataError, match=f"the train split of 'folder' has changed since run {trial.run_id} began"
    ):
        confirm(store, "s", top=1, seeds=2, say=lambda _: None)


def test_a_run_is_resumed_where_its_data_was_moved_and_not_on_other_data(roads, tmp_path):
    run = printed(interrupted([*OWN, *SHORT]), "train")[1].removeprefix("resume=")
    moved = roads.rename(tmp_path / "moved roads")
    mask = next((moved / "masks" / "train").iterdir())
    kept = mask.read_bytes()
    mask.write_bytes((moved / "masks" / "val").glob("*").__next__().read_bytes())
    with pytest.raises(DataError, match="the train split of 'folder' has changed"):
        segtune.train(f"resume={run}", f"dataset.root={moved}", **QUIET)
    mask.write_bytes(kept)
    assert segtune.train(f"resume={run}", f"dataset.root={moved}", **QUIET).state == "finished"


def test_each_step_runs_the_command_printed_before_it(roads, tmp_path, capsys):
    capsys.readouterr()
    assert main(["import", "my labels", "output=my roads", "overwrite=true"]) == 0
    output = run_printed(capsys, capsys.readouterr().out, "check")
    assert "! no test split" in output
    message = interrupted([*printed(output, "train")[1:], *SHORT])
    output = run_printed(capsys, message, "train")
    run_printed(capsys, output, "predict")
    output = run_printed(capsys, output, "compare")
    words = [w.replace("model=folder", "model=roads") for w in printed(output, "promote")]
    assert main([*words, "gate.max_ece=null"]) == 0
    output = capsys.readouterr().out
    assert "(judged on val)" in output
    run_printed(capsys, output, "predict")

    assert main(["evaluate", "models:/roads@champion"]) == 0
    run_printed(capsys, capsys.readouterr().out, "predict")
