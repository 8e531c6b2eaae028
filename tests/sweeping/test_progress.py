"""The progress of a sweep as data, as lines and as a panel."""

import io

import optuna
import pytest
from rich.console import Console

from segtune.config.compose import compose
from segtune.sweeping.engine import lease
from segtune.sweeping.engine.records import Counts
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.listing import state_of
from segtune.sweeping.panel import Panel, live_panel
from segtune.sweeping.progress import Progress, RunningTrial, progress
from segtune.sweeping.pulse import Pulse
from tests.sweeping.test_study import LINE, make_spec


def halfway(folder):
    study = SweepStudy(folder, make_spec(n_trials=8))
    for value in (0.4, 0.7, 0.5):
        claim = study.claim(LINE)
        for epoch in range(3):
            claim.trial.report(value + 0.01 * epoch, epoch)
        study.finish(claim.trial, value)
    running = study.claim(LINE).trial
    running.set_user_attr("num_epochs", 3)
    running.report(0.3, 0)
    running.report(0.35, 1)
    return study


def test_progress_counts_and_compares_with_the_best_at_the_same_epoch(tmp_path):
    state = progress(halfway(tmp_path).study, 8, workers=2)
    assert state.to_json()["trials"]["finished"] == 3 and state.best == (1, 0.7)
    (row,) = state.running
    assert (row.number, row.epoch, row.num_epochs) == (3, 2, 3)
    assert (row.miou, row.best_there) == (0.35, 0.71)
    assert state.eta is not None and state.eta[0] >= 0
    first_line = "sweep t: 3 of 8 done (3 finished, 0 pruned, 0 failed), 1 running"
    assert state.lines()[0].startswith(first_line)


def test_a_sweep_whose_last_worker_died_is_open_and_says_so(tmp_path, monkeypatch):
    study = halfway(tmp_path).study
    assert state_of(progress(study, 8, workers=2)) == "running"
    monkeypatch.setattr(lease, "_born", lambda pid: "another time")
    state = progress(study, 8, workers=2)
    assert state_of(state) == "open" and state.to_json()["running"][0]["gone"]
    assert state.lines()[2].endswith("its worker has ended; the next worker continues it")


def rendered(renderable, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


PARAMS = {
    "template": "segformer",
    "hp.encoder@segformer": "mobilenetv4_conv_small",
    "hp.per_item_lrate": 0.00021838,
}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_panel_cuts_nothing_at_usual_widths(width):
    rows = (
        RunningTrial(12, 0, 40, None, None, PARAMS, "preparing", 14.2, None),
        RunningTrial(103, 10, 1000, 0.5432, 0.6012, PARAMS, "measuring", 10754.0, 7320.0),
    )
    state = Progress(
        "camvid_templates", Counts(10, 2, 1, 2, 0), 200, (7, 0.6511), rows, (), (7320.0, 800.0)
    )
    text = rendered(Panel(state), width)
    words = " ".join(text.split())
    cells = ["preparing", "14 s", "10/1000", "2 h 59 min", "2 h 02 min", "0.5432", "0.6012"]
    params = ["template=segformer", "encoder=mobilenetv4_conv_small", "per_item_lrate=0.000218"]
    for text_part in [*cells, *params, "best 0.6511 (trial 7)"]:
        assert text_part in words
    assert "…" not in text and max(map(len, text.splitlines())) <= width


def test_a_trial_reports_its_phase_and_its_time_from_its_first_steps_on(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("segtune.sweeping.pulse.time.monotonic", lambda: now[0])
    study = SweepStudy(tmp_path, make_spec(n_trials=2))
    claim = study.claim(LINE)
    config = compose(["dataset=street", "hp.num_epochs=10", "hp.batch_size=4"]).config
    pulse = Pulse(claim.trial, config, train_images=40)  # 10 steps an epoch

    def row():
        return progress(study.study, 2, 1).running[0]

    assert (row().phase, row().left) == ("preparing", None) and row().params == claim.trial.params
    for _ in range(5):
        now[0] += 1
        pulse.step()
    pulse.record()
    assert row().phase == "training" and row().seconds == pytest.approx(5, abs=1)
    assert row().left == pytest.approx(95, abs=2)  # 5 of 100 steps took 5 s
    pulse.validated(9)
    assert row().phase == "measuring" and "measuring" in row().line()
    assert "running for" in rendered("\n".join(progress(study.study, 2, 1).lines()), 120)


def test_a_resumed_trial_counts_its_earlier_epochs(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("segtune.sweeping.pulse.time.monotonic", lambda: now[0])
    study = SweepStudy(tmp_path, make_spec(n_trials=1))
    claim = study.claim(LINE)
    config = compose(["dataset=street", "hp.num_epochs=10", "hp.batch_size=4"]).config
    pulse = Pulse(claim.trial, config, train_images=40)
    for _ in range(10):  # the sixth epoch
        now[0] += 1
        pulse.step()
    pulse.validated(5)
    assert progress(study.study, 1, 1).running[0].left == pytest.approx(40, abs=2)


def test_a_trial_without_an_estimate_takes_the_time_of_the_finished_ones(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=2))
    study.study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"seconds": 60.0}))
    claim = study.claim(LINE)
    Pulse(claim.trial, compose(["dataset=street"]).config, train_images=40)
    assert progress(study.study, 2, 1).running[0].left == pytest.approx(60, abs=2)


def test_the_panel_shows_epoch_scores_and_the_best_trial(tmp_path, capsys):
    study = halfway(tmp_path)
    text = rendered(Panel(progress(study.study, 8, 2)), 100)
    assert "2/3" in text and "0.3500" in text and "0.7100" in text
    assert "best 0.7000 (trial 1)" in text
    with live_panel(lambda: progress(study.study, 8, 2)) as tick:
        tick()
    assert "sweep t" in capsys.readouterr().err
