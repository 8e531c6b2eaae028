"""A store for the pages: runs with evidence and hostile names, and a sweep with a study."""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from segtune.config.schema import TrackingConfig
from segtune.sweeping.engine.identity import study_id
from segtune.sweeping.engine.lease import identify, new_lease
from segtune.sweeping.engine.records import LEASE, RUN, SPEC
from segtune.sweeping.engine.storage import open_storage
from segtune.tracking.store import Store, open_store
from tests.report.fakes import COST, EVIL, fake_run

SPACE = {f"loss {EVIL}": CategoricalDistribution([EVIL, "ce"]), "hp.width": IntDistribution(0, 9)}


def make_store(root: Path) -> tuple[Store, list[str]]:
    """Return a store with the sweep `s`, and the ids of its runs."""
    store = open_store(TrackingConfig(root=str(root)))
    runs = [fake_run(store, f"{EVIL}{n}", 0.5 + n / 30, sweep="s", number=6) for n in range(3)]
    make_study(store.root / "sweeps" / "s", runs)
    return store, runs


def make_study(folder: Path, runs: Sequence[str]) -> optuna.Study:
    """Return a study with a finished trial for each run, and a running one."""
    storage = open_storage(folder, None, folder.name).optuna
    study = optuna.create_study(study_name=folder.name, direction="maximize", storage=storage)
    study_id(study, folder)
    study.set_user_attr(SPEC, {"n_trials": 5, "workers": 2})
    for number, run in enumerate(runs):
        study.add_trial(finished_trial(number, run))
    study.add_trial(running_trial())
    return study


def finished_trial(number: int, run: str) -> optuna.trial.FrozenTrial:
    return create_trial(
        value=0.5 + number / 30,
        params={f"loss {EVIL}": [EVIL, "ce"][number % 2], "hp.width": number},
        distributions=SPACE,
        intermediate_values={0: 0.3, 1: 0.5 + number / 30},
        user_attrs={RUN: run, "cost": COST, "num_epochs": 2},
    )


def running_trial() -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params={f"loss {EVIL}": EVIL, "hp.width": 4},
        distributions=SPACE,
        intermediate_values={0: 0.2},
        user_attrs={LEASE: new_lease(identify(), 1), "num_epochs": 2},
    )
