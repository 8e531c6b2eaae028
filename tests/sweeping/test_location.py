"""A study in a database: found by the sweep's name, with a password that only its owner reads."""

import json
import subprocess
import sys
from pathlib import Path

import optuna
import psutil
import pytest
from filelock import FileLock

import segtune
from segtune.cli.main import main
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError
from segtune.report.compare import compare
from segtune.runtime.addresses import PASSWORD
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.engine.study_storage import StudyStorage
from segtune.sweeping.launch import located, run_sweep
from segtune.sweeping.location import remember, remembered
from segtune.sweeping.plan import plan_sweep
from segtune.sweeping.space import Space
from segtune.sweeping.worker import WorkerTask
from segtune.tracking.store import open_store
from tests.conftest import tiny_without
from tests.report.fakes import fake_run
from tests.sweeping.test_study import make_spec

URL = "postgresql://me:secret@host/studies"
SPACE = Space((), ("swift",), (SweepDimension("x", "x"), SweepDimension("y", "y")))


@pytest.fixture
def database(tmp_path, monkeypatch):
    """A stand-in for PostgreSQL: each URL opens a database of its own."""
    opened = {}

    def open_database(url, name):
        if url not in opened:
            opened[url] = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/{len(opened)}.db")
        return StudyStorage(opened[url], lambda: FileLock(tmp_path / "lock"), lambda: 1e6)

    monkeypatch.setattr("segtune.sweeping.engine.storage.open_database", open_database)
    yield opened
    for storage in opened.values():
        storage.engine.dispose()


@pytest.fixture
def study(tmp_path, database):
    """A study of 12 trials in the database, of a sweep whose runs lie in `mlruns`."""
    folder = tmp_path / "mlruns" / "sweeps" / "s"
    study = SweepStudy(folder, make_spec(name="s", n_trials=12, storage=URL))
    remember(folder, URL)
    study.begin()
    while (claim := study.claim(SPACE)) is not None:
        study.finish(claim.trial, 0.5 + 0.1 * claim.trial.params["x"])
    return study


def test_a_report_shows_the_history_of_a_study_in_a_database(study, tmp_path):
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    fake_run(store, "a1", 0.5, sweep="s")
    fake_run(store, "b2", 0.7, sweep="s")
    page = compare(store, ["s"]).html.read_text()
    for title in ("Optimisation history", "Parameters of the trials", "val mIoU by parameter"):
        assert title in page
    (study.folder / "storage.json").unlink()  # another machine, without the folder
    assert "Optimisation history" not in compare(store, ["s"]).html.read_text()
    assert "Optimisation history" in segtune.compare("s", storage=URL).html.read_text()


def test_a_database_out_of_reach_is_a_warning_of_the_report(study, tmp_path, monkeypatch):
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    fake_run(store, "a1", 0.5, sweep="s")
    monkeypatch.undo()
    (study.folder / "storage.json").write_text(
        '{"storage": "postgresql://me:secret@127.0.0.1:9/none"}'
    )
    report = compare(store, ["s"])
    warning = next(w for w in report.facts["warnings"] if "no history" in w)
    assert "cannot be reached" in warning and "secret" not in report.html.read_text()


def test_every_verb_finds_the_study_by_its_name(study, capsys):
    assert main(["status", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"]["finished"] == 12
    assert main(["retry", "s"]) == 0 and main(["stop", "s"]) == 0
    assert not (study.folder / "journal.log").exists()


def test_the_address_may_come_from_the_environment(tmp_path, database, monkeypatch):
    monkeypatch.setenv("SEGTUNE_STORAGE", URL)
    folder = tmp_path / "mlruns" / "sweeps" / "s"
    assert located(make_spec(name="s"), folder).storage == URL
    given = make_spec(name="s", storage="postgresql://me@other/studies")
    assert located(given, folder).storage == given.storage
    SweepStudy(folder.parent / "local", make_spec(name="local")).begin()
    assert located(make_spec(name="local"), folder.parent / "local").storage is None


def test_only_the_owner_reads_the_address(study, tmp_path, monkeypatch):
    file = study.folder / "storage.json"
    assert file.stat().st_mode & 0o777 == 0o600 and remembered(study.folder) == URL
    assert "secret" not in json.dumps(dict(study.study.user_attrs))
    task = WorkerTask(study.spec.model_copy(update={"storage": None}), study.folder, "", 1)
    assert "secret" not in task.to_json() and WorkerTask.parse(task.to_json()).spec.storage == URL

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("segtune.sweeping.location._read", refuse)
    with pytest.raises(ConfigError, match="only its owner .* sweep.storage="):
        remembered(study.folder)


def test_a_sweep_continues_in_its_database_and_does_not_restart_elsewhere(tmp_path, database):
    fixed = "".join(f"  - {w}\n" for w in tiny_without("hp.width"))
    (tmp_path / "s.yaml").write_text(
        f"n_trials: 2\nsearch: {{hp.width: [16, 24]}}\noverrides:\n{fixed}"
    )
    folder = tmp_path / "mlruns" / "sweeps" / "s"
    study = SweepStudy(folder, make_spec(name="s", n_trials=2, storage=URL))
    remember(folder, URL)
    study.study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"seconds": 7.0}))
    assert plan_sweep(str(tmp_path / "s.yaml"), []).left == 1
    assert not (folder / "journal.log").exists()
    with pytest.raises(ConfigError, match=r"postgresql://me@host/studies.*has none of that name"):
        run_sweep(str(tmp_path / "s.yaml"), ["sweep.storage=postgresql://me@other/studies"])
    with pytest.raises(ConfigError, match="journal.log', .*none of that name"):
        local = SweepStudy(folder.parent / "t", make_spec(name="t"))
        local.study.add_trial(optuna.trial.create_trial(value=0.5))
        plan_sweep(str(tmp_path / "s.yaml"), ["sweep.name=t", f"sweep.storage={URL}"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"storage": null}', '{"storage": 5}', "[" * 9999])
def test_a_damaged_address_is_refused_until_it_is_given_again(text, tmp_path):
    (tmp_path / "storage.json").write_text(text)
    with pytest.raises(ConfigError, match="Give the study's address again"):
        remembered(tmp_path)
    remember(tmp_path, "postgresql://me@host/studies")
    assert remembered(tmp_path) == "postgresql://me@host/studies"


@pytest.mark.services
def test_a_sweep_on_servers_ends_in_a_complete_report_and_leaks_no_password(
    tmp_path, postgresql, mlflow_server, capfd, monkeypatch
):
    monkeypatch.setenv(PASSWORD, "")
    url = postgresql.replace("segtune@", "segtune:hush-study@")
    uri = mlflow_server.uri.replace("http://", "http://me:hush-runs@")
    fixed = "".join(f"  - {w}\n" for w in tiny_without("hp.width", "hp.per_item_lrate"))
    text = "n_trials: 5\nworkers: 1\npruner: none\nsampler: random\nsearch:\n  hp.width: [16, 24]\n"
    text += "  hp.per_item_lrate: {min: 1.0e-4, max: 1.0e-2, log: true}\noverrides:\n"
    (tmp_path / "s.yaml").write_text(f"{text}{fixed}")
    overrides = [f"sweep.storage={url}", f"tracking.uri={uri}", "hp.num_epochs=1"]
    command = [sys.executable, "-m", "segtune", "sweep", "s.yaml", *overrides]
    visible_words, lines = [], []
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            lines.append(line)
            if "trial" in line:
                for pid in _children(process.pid):
                    visible_words += _words_of(pid)
    assert process.returncode == 0 and visible_words
    for words in (["status", "s"], ["list", "sweeps", f"tracking.uri={uri}"]):
        assert main(words) == 0
    page = segtune.compare("s", uri=uri).html.read_text()
    for title in ("Optimisation history", "Parameters of the trials", "val mIoU by parameter"):
        assert title in page
    mlflow_server.kill()
    assert main(["list", "runs", f"tracking.uri={uri}"]) == 5
    printed = capfd.readouterr()
    assert "hush" not in "".join([*visible_words, *lines, *printed])
    files = [path for folder in (tmp_path, mlflow_server.folder) for path in folder.rglob("*")]
    secret = [path for path in files if path.is_file() and b"hush" in path.read_bytes()]
    assert secret == [tmp_path / "mlruns" / "sweeps" / "s" / "storage.json"]
    assert secret[0].stat().st_mode & 0o77 == 0
    assert "hush" not in _rows_of(postgresql)


def _rows_of(url):
    """Everything that a database holds, as text."""
    import psycopg

    with psycopg.connect(url) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        tables = [row[0] for row in connection.execute(query).fetchall()]
        rows = [str(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables]
    assert "hp.width" in str(rows)
    return str(rows)


def _children(pid):
    try:
        return [p.pid for p in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _words_of(pid):
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text().split("\0") if path.exists() else []
