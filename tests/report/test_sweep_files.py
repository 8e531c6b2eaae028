"""Every file in sweeps/ ends in a report: over runs made up in its space, and, slowly, over trained ones."""

import json

import optuna
import pytest

import segtune
from segtune.config.conf_folders import shipped
from segtune.config.schema import TrackingConfig
from segtune.report.compare import compare
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import load_spec
from segtune.sweeping.storage import open_storage
from segtune.tracking.recording import logged_params
from segtune.tracking.store import open_store
from tests.conftest import SCENES
from tests.report.fakes import fake_run

SWEEPS = sorted(p.stem for p in shipped("sweeps").glob("*.yaml"))
QUICK = (
    "camvid_loss",
    "camvid_scale",
    "camvid_templates",
    "quickstart",
)  # groups, lists, templates, ranges


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
        pruned, miou = number == 2, 0.5 + 0.04 * number
        state = "pruned" if pruned else "finished"
        fake_run(
            store, f"{name}-{number}", miou, state, name, {"hp.width": None} | params, number=12
        )
        study.tell(
            trial, None if pruned else miou, optuna.trial.TrialState.PRUNED if pruned else None
        )
    report = compare(store, [name])
    facts, page = json.loads(report.json.read_text()), report.html.read_text()
    assert len(facts["candidates"]) == 2 and len(facts["others"]) == 1
    asked = {k.split("@")[0] for t in study.trials for k in t.params} & set(
        facts["candidates"][0]["params"]
    )
    for key in asked - {"seed"}:
        values = {c["params"].get(key) for c in facts["candidates"]}
        assert len(values) == 1 or f"<th>{key}</th>" in page


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
    taken = {o.partition("=")[0] for o in load_spec(name).search}
    own = [o for o in quick if o.partition("=")[0] not in taken]
    result = segtune.sweep(
        name, "sweep.n_trials=2", "sweep.workers=2", *SCENES, *own, say=lambda _: None
    )
    report = segtune.compare(name)
    assert result.counts.done == report.runs == 2 and report.best is not None
    assert all(word in report.html.read_text() for word in ("Candidates", "Val mIoU by epoch"))
