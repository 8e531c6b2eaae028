"""Train the best configuration of the search with a fresh seed and the time that is left."""

from segtune.config.schema import TrainerConfig
from segtune.report.confirm import fresh_seeds
from segtune.runtime.log import Log
from segtune.tracking.recorded import recorded_config
from segtune.tracking.runs import RunRecord, get_run, search_runs
from segtune.tracking.store import Store
from segtune.training.fit import fit
from segtune.training.request import RunRequest

_TAG = "segtune.auto"
"""Tag of a final run: the id of the study that chose its configuration."""


def earlier_final(store: Store, study: str) -> RunRecord | None:
    """The final run of a study: the finished one, else one to go on with, or None."""
    runs = search_runs(store, {_TAG: study})
    finished = [run for run in runs if run.miou is not None]
    unfinished = [run for run in runs if run.state in ("interrupted", "running")]
    return next(iter([*finished, *unfinished]), None)


def train_final(
    store: Store, study: str, best: RunRecord, minutes: float, trainer: TrainerConfig, say: Log
) -> RunRecord:
    """Train a trial's configuration for longer, with a seed that the search did not use.

    Args:
        study: id of the study.
        trainer: the settings of the user, without the share of a trial.
    """
    earlier = earlier_final(store, study)
    if earlier is not None and earlier.miou is not None:
        return earlier
    recorded = recorded_config(store, best.id)
    seed = fresh_seeds(study, 1, {recorded.seed})[0]
    own = {"minutes": minutes, "threads": trainer.threads, "val_every": trainer.val_every}
    config = recorded.model_copy(
        update={"seed": seed, "trainer": recorded.trainer.model_copy(update=own)}
    )
    resume = earlier.id if earlier is not None else None
    say(f"final run: the configuration of {best.name} with seed {seed}, {minutes:.2g} minutes")
    tags = {_TAG: study}
    if "segtune.command" in best.tags:
        command = best.tags["segtune.command"]
        tags["segtune.command"] = f"{command} seed={seed} trainer.minutes={minutes:.3g}"
    request = RunRequest(
        f"{best.name}-final", tags, resume=resume, same_data_as=best.id, restart_if_damaged=True
    )
    return get_run(store, fit(config, request, say=say).run_id)
