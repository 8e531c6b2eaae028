"""How far a sweep is, as data, lines and a picture."""

import io

from rich.console import Console

from segtune.sweeping.progress import live_panel, panel, progress
from segtune.sweeping.study import SweepStudy
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
    assert (row.number, row.epoch, row.num_epochs, row.miou, row.best_there) == (3, 2, 3, 0.35, 0.71)
    assert state.eta is not None and state.eta[0] >= 0
    assert state.lines()[0].startswith("sweep t: 3 of 8 done (3 finished, 0 pruned, 0 failed), 1 running")


def test_the_panel_shows_them(tmp_path, capsys):
    study = halfway(tmp_path)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(panel(progress(study.study, 8, 2)))
    text = console.export_text()
    assert "2/3" in text and "0.3500" in text and "0.7100" in text and "best 0.7000 (trial 1)" in text
    with live_panel(lambda: progress(study.study, 8, 2)) as tick:
        tick()
    assert "sweep t" in capsys.readouterr().err
