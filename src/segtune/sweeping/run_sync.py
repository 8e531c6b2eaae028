"""Sync the MLflow runs of a sweep with its trials after workers were killed."""

from optuna.trial import TrialState

from segtune.errors import StorageError
from segtune.runtime.retry import with_backoff
from segtune.sweeping.engine.records import RUN
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.records import run_states
from segtune.sweeping.spec import SweepSpec
from segtune.tracking.run_writer import RunWriter, deliver_outboxes
from segtune.tracking.runs import STUDY_TAG, delete_run, find_run, record_of, sweep_runs
from segtune.tracking.store import Store


def sync_runs(store: Store, study: SweepStudy[SweepSpec]) -> None:
    """Give each run the state of its trial; delete runs that a killed worker left without a trial.

    Raises:
        StorageError: the tracking server is away; the runs wait on this machine.
    """
    try:
        with_backoff(lambda: _deliver(store))
    except ConnectionError as error:
        raise StorageError(
            f"{error}. They are kept, and sent when you run the same command again."
        ) from error
    # the runs are read before the trials: a run that a worker creates in between is not touched
    runs = sweep_runs(store, study.spec.name, study.id)
    running = [trial for trial in study.counted() if trial.state == TrialState.RUNNING]
    # a trial that runs may have created its run, but not yet recorded the run's id
    run_may_be_new = any(RUN not in trial.user_attrs for trial in running)
    states = run_states(study.study)
    for run in runs:
        state = states.get(run.id)
        if state is None and run.state == "running":
            if run.tags.get(STUDY_TAG) == study.id and not run_may_be_new:
                delete_run(store, run.id)
        elif state not in (None, "running", run.state):
            RunWriter(store, run.id).finish(state)  # type: ignore[arg-type]  # a State


def adopt_runs(store: Store, study: SweepStudy[SweepSpec]) -> None:
    """Give the runs of a study of segtune 0.1.0, which set no tag, the id of the study.

    On a server other studies of the same name may have such runs, so only the runs that the
    study's trials name are adopted, and the run above them.
    """
    if not store.is_server:
        return
    tagged = {run.id for run in sweep_runs(store, study.spec.name, study.id)}
    parents = set()
    for run_id in run_states(study.study).keys() - tagged:
        run = find_run(store, run_id)
        if run is not None and run.info.lifecycle_stage == "active":
            parents.add(record_of(run).tags.get("mlflow.parentRunId"))
            store.client.set_tag(run_id, STUDY_TAG, study.id)
    for parent in parents - {None}:
        store.client.set_tag(str(parent), STUDY_TAG, study.id)


def _deliver(store: Store) -> None:
    waiting = deliver_outboxes(store)
    if waiting:
        raise ConnectionError(
            f"the tracking server '{store.address}' is away, and {waiting} runs wait to be sent"
        )
