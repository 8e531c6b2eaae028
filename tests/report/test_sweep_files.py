"""Every file in sweeps/ ends in a report: with invented runs and, slowly, with trained ones."""

import json
import re

import optuna
import pytest

import segtune
from segtune.config.conf_folders import shipped
from segtune.config.schema import TrackingConfig
from segtune.report.compare import compare
from segtune.sweeping.engine.storage import open_storage
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import load_spec
from segtune.tracking.recording import logged_params
from segtune.tracking.store import open_store
from tests.conftest import SCENES
from tests.report.fakes import fake_run

SWEEPS = sorted(p.stem for p in shipped("sweeps").glob("*.yaml"))
# they search groups, lists, templates and ranges
QUICK = ("camvid_loss", "camvid_scale", "camvid_templates", "quickstart")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SWEEPS]
)
def test_a_sweep_over_any_of_its_configurations_ends_in_a_report(name, tmp_path):
    spec = load_spec(name)
    space = build_space(spec)
    store = open_store(TrackingConfig(root=str(tmp_path / "store")))
    storage = open_storage(store.root / "sweeps" / name, None, name).optuna
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(
        study_name=name, direction="maximize", storage=storage, sampler=sampler
    )
    for number in range(3):
        trial = study.ask()
        params = logged_params(compose_trial(space.propose(trial), 1))
        params = {"hp.width": None} | params
        miou = 0.5 + 0.04 * number
        if number < 2:
            fake_run(store, f"{name}-{number}", miou, "finished", name, params, number=12)
            study.tell(trial, miou)
        else:
            fake_run(store, f"{name}-{number}", miou, "pruned", name, params, number=12)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    report = compare(store, [name])
    facts, page = json.loads(report.json.read_text()), report.html.read_text()
    assert len(facts["candidates"]) == 2 and len(facts["others"]) == 1
    searched = set()
    for trial in study.trials:
        searched |= {key.split("@")[0] for key in trial.params}
    for key in searched & set(facts["candidates"][0]["params"]) - {"seed"}:
        values = {c["params"].get(key) for c in facts["candidates"]}
        assert len(values) == 1 or re.search(rf"<th[^>]*>{key}</th>", page)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.ci if n == "camvid_loss" else ()) for n in SWEEPS]
)
def test_a_sweep_of_two_tiny_trials_on_street_scenes_ends_in_a_report(name):
    quick = [
        "trainer.minutes=null",
        "hp.num_epochs=1",
        "hp.image_size=[64]",
        "hp.batch_size=3",
        "trainer.precision=fp32",
    ]
    quick += [
        "augment.crop_size=64",
        "augment.crop_start=64",
        "tracking.overlays=1",
        "trainer.val_every=1",
    ]
    searched = {o.partition("=")[0] for o in load_spec(name).search}
    quick = [o for o in quick if o.partition("=")[0] not in searched]
    words = ["sweep.n_trials=2", "sweep.workers=2", *SCENES, *quick]
    result = segtune.sweep(name, *words, say=lambda _: None)
    report = segtune.compare(name)
    assert result.counts.done == report.runs == 2 and report.best is not None
    assert all(word in report.html.read_text() for word in ("Candidates", "Val mIoU by epoch"))
