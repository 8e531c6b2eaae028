"""Commands that steer a sweep from another shell, and the dry run."""

import json
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from segtune.cli.main import main
from segtune.sweeping import timing
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.identity import differences
from segtune.sweeping.engine.records import ERROR, Counts
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.plan import plan_sweep
from segtune.sweeping.recorded_keys import comparable_identity
from tests.conftest import SCENES, tiny_without
from tests.sweeping.test_study import LINE, make_spec


@pytest.fixture
def study(tmp_path):
    study = SweepStudy(tmp_path / "mlruns" / "sweeps" / "t", make_spec(n_trials=4))
    study.begin()
    study.finish(study.claim(LINE).trial, 0.5)
    failed = study.claim(LINE).trial
    failed.set_user_attr(ERROR, "no luck")
    study.finish(failed, state=TrialState.FAIL)
    return study


def test_status_prints_the_progress(study, capsys):
    assert main(["status", "t", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["trials"] == {"finished": 1, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}
    assert state["errors"] == [{"trial": 1, "error": "no luck"}]
    assert state["best"] == {"trial": 0, "val/miou": 0.5} and state["n_trials"] == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [("seconds", "x"), ("retry_of", "1"), ("overrides", 3), ("pulse", {"phase": 1}), ("run", [])],
)
def test_a_damaged_record_of_a_study_is_one_message(key, value, study, capsys):
    study.claim(LINE).trial.set_user_attr(key, value)
    assert main(["status", "t"]) == 5
    assert f"is damaged (trial 2: {key}" in capsys.readouterr().err


@pytest.mark.parametrize("objective", [3, "miou", [None], {"a": "val/miou"}])
def test_a_damaged_objective_of_a_study_is_one_message(objective, study, capsys):
    study.study.set_user_attr("spec", {"objective": objective})
    assert main(["status", "t"]) == 5
    assert "is damaged (the study: spec.objective" in capsys.readouterr().err


def test_status_writes_nothing(study, tmp_path):
    def state():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*")}

    before = state()
    assert main(["status", "t"]) == 0 and main(["status"]) == 0
    assert state() == before


def test_stop_keeps_workers_from_claiming_until_the_next_start(study, capsys):
    assert main(["stop", "t"]) == 0 and "segtune sweep t" in capsys.readouterr().out
    assert study.claim(LINE) is None
    study.begin()
    assert study.claim(LINE) is not None


def test_retry_enqueues_the_failed_trials(study, capsys):
    assert main(["retry", "t", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 1
    assert study.counts() == Counts(finished=1, waiting=1)
    assert main(["retry", "t", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 0


@pytest.mark.parametrize("verb", ["stop", "retry"])
def test_the_printed_command_to_continue_works_in_every_folder(
    verb, study, tmp_path, capsys, monkeypatch
):
    main([verb, "t"])
    assert f"cd {tmp_path}" not in capsys.readouterr().out
    other = tmp_path / "b"
    other.mkdir()
    monkeypatch.chdir(other)
    main([verb, "t", f"tracking.root={tmp_path / 'mlruns'}"])
    out = capsys.readouterr().out
    assert f"cd {tmp_path} && " in out and "sweep t" in out
    assert main(["status", f"tracking.root={tmp_path / 'mlruns'}"]) == 0
    assert f"status NAME tracking.root={tmp_path / 'mlruns'}" in capsys.readouterr().out
    assert main([verb, "unknown", f"tracking.root={tmp_path / 'mlruns'}"]) == 2
    assert f"sweep unknown tracking.root={tmp_path / 'mlruns'}" in capsys.readouterr().err


def test_another_store_does_not_change_the_question():
    recorded = comparable_identity({"overrides": ["seed=1", "tracking.root=runs"]})
    assert differences(recorded, {"overrides": ["seed=1"]}) == []
    assert differences(recorded, {"overrides": ["seed=2"]}) == [
        "overrides: ['seed=1'] -> ['seed=2']"
    ]


@pytest.mark.parametrize("verb", ["status", "stop", "retry", "worker"])
def test_a_sweep_that_was_never_started_is_an_error(verb, capsys):
    assert main([verb, "nothing"]) == 2
    assert "never started" in capsys.readouterr().err


def test_bare_status_lists_the_sweeps_of_the_store(study, tmp_path, capsys):
    other = SweepStudy(tmp_path / "mlruns" / "sweeps" / "u", make_spec(name="u", n_trials=1))
    other.begin()
    other.finish(other.claim(LINE).trial, 0.7)
    unreadable = tmp_path / "mlruns" / "sweeps" / "v"
    unreadable.mkdir()
    (unreadable / "storage.json").write_text("{")
    assert main(["status", "--json"]) == 0
    rows = {r["sweep"]: r for r in json.loads(capsys.readouterr().out)["sweeps"]}
    assert {n: r["state"] for n, r in rows.items()} == {
        "t": "open",
        "u": "complete",
        "v": "unreadable",
    }
    assert rows["t"]["trials"]["failed"] == 1 and rows["u"]["best"]["val/miou"] == 0.7
    assert main(["status"]) == 0
    line = "t  open      2/4 trials (1 finished, 0 pruned, 1 failed), best 0.5000"
    assert line in capsys.readouterr().out
    assert main(["status", "tracking.root=nowhere"]) == 0
    assert "holds no sweep" in capsys.readouterr().out
    assert not (tmp_path / "nowhere").exists()


def test_bare_sweep_lists_the_files_with_their_questions(tmp_path, capsys):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("# Question: is it mine?\nn_trials: 1\n")
    (tmp_path / "sweeps" / "quickstart.yaml").write_text("n_trials: 1\n")
    assert main(["sweep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=1) for line in lines]
    assert ["mine", "is it mine?"] in rows
    assert ["quickstart", "(no question in line 1)"] in rows  # the user's file, not the shipped one
    assert any(line.startswith("camvid_loss ") for line in lines)
    assert max(map(len, lines[:-1])) <= 100


@pytest.mark.parametrize(("keys", "is_partial"), [(1, False), (5, True), (20, True)])
def test_a_forecast_times_first_and_last_choices_and_names_the_untimed_ones(
    keys, is_partial, monkeypatch
):
    sizes = ([256], [384], [512], [1024])
    dimensions = [SweepDimension("hp.image_size", "hp.image_size", choices=sizes)]
    dimensions += [
        SweepDimension(f"hp.k{n}", f"hp.k{n}", choices=(0, 1, 2)) for n in range(keys - 1)
    ]
    space = SimpleNamespace(templates=["swift"], dimensions_of=lambda _: dimensions)
    monkeypatch.setattr(
        timing, "_seconds", lambda spec, space, values: float(values["hp.image_size"][0])
    )
    result = timing.time_choices(None, space)
    assert (result.low, result.high) == (256.0, 1024.0) and bool(result.untimed) == is_partial
    assert int(result.measured.split()[5]) <= 12
    if keys == 5:
        assert "hp.image_size=[512]" in result.untimed[0]
    if keys == 20:
        assert "hp.k18" in result.untimed[0]


def test_a_dry_run_prints_space_and_forecast_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    costs = {"swift": 10.0, "fpn": 40.0}

    def forecast(config, patience):
        assert config.hp["pretrained_weights"] == "none" and patience <= 1
        size = config.hp.get("width", 16) / 16 * config.hp["batch_size"] / 2
        return costs[config.template["name"]] * size

    monkeypatch.setattr("segtune.sweeping.timing.forecast_seconds", forecast)
    search = {
        "template": ["swift", "fpn"],
        "hp.width": [16, 32],
        "hp.batch_size": [2, 4],
        "hp.per_item_lrate": {},
        "hp.num_epochs": [2, 6],
    }
    data = {
        "n_trials": 4,
        "overrides": tiny_without(*search),
        "search": search,
        "enqueue": [{"hp.num_epochs": 2, "hp.batch_size": 2}],
    }
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "dry.yaml").write_text(json.dumps(data))
    plan = plan_sweep("dry", [])
    assert plan.left == 4 and plan.size is None
    # swift: 10 s, twice the width, twice the batch, three times the epochs; fpn has no width
    assert (plan.trial.low, plan.trial.high) == (10.0, 40.0 * 2 * 3)
    assert plan.trial.mean == pytest.approx((10 * 1.5 * 1.5 * 2 + 40 * 1.5 * 2) / 2)
    json_plan = plan.to_json()
    assert json_plan["wall_seconds"] == 2 * plan.trial.mean
    assert json_plan["wall_seconds_range"] == [20.0, 480.0]
    lines = "\n".join(plan.lines())
    assert "swift: about 45 s (10 to 120)" in lines and "fpn: about 120 s (40 to 240)" in lines
    assert "from a few steps of 5 configurations" in lines
    assert "tried first: template=swift" in lines
    assert "about 2.8 minutes (0.3 to 8.0) in all; nothing was started" in lines
    budget_alone = ["sweep.dry_run=true", "sweep.n_trials=null", "sweep.budget=45m"]
    assert main(["sweep", "dry", *budget_alone]) == 0
    assert "about 45.0 minutes in all; nothing was started" in capsys.readouterr().out
    assert not (tmp_path / "mlruns").exists()


def test_overrides_of_a_searched_template_that_is_not_the_default_reach_the_sweep(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("segtune.sweeping.timing.forecast_seconds", lambda config, patience: 1.0)
    (tmp_path / "sweeps").mkdir()
    # swift, the default template, has no encoder
    fixed = [*SCENES, "trainer=debug", "hp.encoder=resnet18", "hp.image_size=[64]"]
    data = {"n_trials": 2, "overrides": fixed, "search": {"template": ["fpn", "linknet"]}}
    (tmp_path / "sweeps" / "two.yaml").write_text(json.dumps(data))
    assert main(["sweep", "two", "--dry-run"]) == 0
    assert "linknet: about 1 s" in capsys.readouterr().out


def test_a_dry_run_times_real_steps(tmp_path, capsys):
    (tmp_path / "sweeps").mkdir()
    data = {
        "n_trials": 2,
        "overrides": tiny_without("hp.batch_size"),
        "search": {"hp.batch_size": [2, 6], "seed": [0, 1]},
    }
    (tmp_path / "sweeps" / "dry.yaml").write_text(json.dumps(data))
    assert main(["sweep", "dry", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    low, high = plan["trial_seconds_range"]
    assert 0 < low <= plan["trial_seconds"] <= high and "2 configurations" in plan["measured"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep.budget=soon"], "budget"),
        (["sweep.n_trials=null"], "give n_trials, or a budget"),
        (["sweep.sampler=grid"], "a grid needs"),
        (["sweep.constraints.latency=3"], "latency_ms"),
        (["sweep.storage=mysql://x"], "postgresql://"),
        (["sweep.launcher=k8s"], "local"),
    ],
)
def test_bad_input_gets_one_message_and_starts_nothing(overrides, message, tmp_path, capsys):
    assert main(["sweep", "quickstart", *overrides]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "mlruns" / "sweeps").exists()
