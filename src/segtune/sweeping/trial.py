"""Run one trial: fine-tune its configuration under a lease, and record the result in the study."""

import traceback
from collections.abc import Mapping
from functools import partial

from optuna.trial import TrialState

from segtune.config.commands import absolute_words, command
from segtune.config.compose import compose
from segtune.config.schema import RunConfig
from segtune.data.sources import open_source
from segtune.errors import DataError, Diverged, Interrupted, SegtuneError, StorageError
from segtune.models.fitting import is_out_of_memory
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.lease import Lease
from segtune.sweeping.engine.pulling import report, run_leased
from segtune.sweeping.engine.records import DIVERGED, ERROR, PAUSED, RUN
from segtune.sweeping.engine.study import Claim, SweepStudy
from segtune.sweeping.identity import dataset_fingerprint
from segtune.sweeping.objectives import CURVE, should_prune
from segtune.sweeping.progress import NUM_EPOCHS, short
from segtune.sweeping.pulse import Pulse
from segtune.sweeping.records import MIOU, plain_params
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import compose_trial
from segtune.sweeping.spec import SweepSpec
from segtune.tracking.runs import OBJECTIVE_TAG, STUDY_TAG
from segtune.training.fit import fit
from segtune.training.request import RunHooks, RunRequest
from segtune.training.result import RunResult


def run_trial(
    study: SweepStudy[SweepSpec],
    claim: Claim[Space],
    parent: str,
    threads: int,
    stop: StopRequest,
    say: Log,
) -> None:
    """Run a claimed trial to its end, or return it to the queue if `stop` asks for that.

    Args:
        parent: id of the run that stands for the sweep.
        threads: CPU threads of the trial.

    Raises:
        Interrupted: asked to stop; the trial returned to the queue.
        DataError: no trial can use the dataset.
        StorageError: a store, a server or a disk cannot be used; the trial returned to the queue.
    """
    run_leased(
        study,
        claim.trial,
        partial(_LeasedTrial, study, claim, stop),
        lambda leased: _fit(leased, parent, threads, say),
        lambda error: _fail(study, claim, error, say),
        say,
        released_on=(Interrupted, DataError, StorageError),
    )


class _LeasedTrial:
    """A trial while this process works on it: its lease, and the calls that `fit` makes."""

    def __init__(
        self, study: SweepStudy[SweepSpec], claim: Claim[Space], stop: StopRequest
    ) -> None:
        self.study, self.claim, self.stop = study, claim, stop
        self.trial = claim.trial
        self.pulse: Pulse | None = None
        self.num_epochs = 0
        self.curve: dict[int, float] = {}
        self.lease = Lease(claim.trial, study.holder, study.spec.lease, self._on_renewal)

    def __enter__(self) -> "_LeasedTrial":
        self.lease.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.lease.__exit__(*exception)

    def begin(self, config: RunConfig) -> None:
        """Record how long the trial will be, and start its pulse."""
        self.num_epochs = int(config.hp["num_epochs"])
        if config.trainer.minutes is None:  # else the training chooses the number of epochs
            self.trial.set_user_attr(NUM_EPOCHS, self.num_epochs)
        _check_data(self.study, config)
        train_images = len(open_source(config.dataset).images("train"))
        self.pulse = Pulse(self.trial, config, train_images)

    def before_step(self) -> None:
        """Check the lease before a step writes anything."""
        self.lease.check()
        if self.pulse:
            self.pulse.step()

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report a validation; return whether to prune the trial."""
        self.lease.check()
        self._report(metrics, epoch)
        if self.pulse:
            self.pulse.validated(epoch)
        self._follow_stop_request()
        if epoch + 1 >= self.num_epochs:  # after the last epoch nothing is saved
            return False
        has_value = self.study.spec.objective_names[0] in metrics
        if has_value and self.study.fidelity.is_reached(self.trial, epoch):
            self.trial.set_user_attr(PAUSED, True)
            return True
        return self._should_prune()

    def pauses_at_once(self) -> bool:
        """End the trial if the attempt before was killed just after it had paused."""
        curve = self.study.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
        if not curve or max(curve) + 1 >= self.num_epochs:
            return False
        if not self.study.fidelity.is_reached(self.trial, max(curve)):
            return False
        self.trial.set_user_attr(PAUSED, True)
        self.study.finish(self.trial, state=TrialState.PRUNED)
        return True

    @property
    def is_paused(self) -> bool:
        """Whether the trial has reached the fidelity of its sweep, and may go on later."""
        return bool(self.trial.user_attrs.get(PAUSED))

    def _report(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Report the first objective, if this validation has it."""
        objectives = self.study.spec.objectives
        value = metrics.get(objectives[0].name)
        if value is None:
            return
        if len(objectives) == 1:
            report(self.trial, value, epoch)
            return
        self.curve[epoch] = value
        self.trial.set_user_attr(CURVE, self.curve)

    def _should_prune(self) -> bool:
        if len(self.study.spec.objectives) == 1:
            return self.trial.should_prune()
        return bool(self.curve) and should_prune(self.study.study, self.trial, self.curve)

    def commit(self, result: RunResult) -> None:
        """Record the result, and end the trial."""
        self.lease.check()
        study, trial, cost = self.study, self.trial, dict(result.cost)
        trial.set_user_attr("cost", cost)
        for name, limit in study.spec.constraints.limits().items():
            if name in cost:
                trial.set_constraint(name, cost[name] / limit - 1.0)
        if result.state == "finished":
            values = [o.value(result.metrics, cost) for o in study.spec.objectives]
            trial.set_user_attr(MIOU, result.miou)
            study.finish(trial, values[0] if len(values) == 1 else values)
        else:
            trial.set_user_attr("ended", result.state)
            study.finish(trial, state=TrialState.PRUNED)

    def _on_renewal(self) -> None:
        self.study.report_alive()
        if self.pulse:
            self.pulse.record()
        self._follow_stop_request()

    def _follow_stop_request(self) -> None:
        """Stop if another shell asked the sweep to stop."""
        # never set to False: a signal may have come while the study was read
        if self.study.stop_requested():
            self.stop.requested = True


def _fit(leased: _LeasedTrial, parent: str, threads: int, say: Log) -> None:
    study, claim, trial = leased.study, leased.claim, leased.trial
    config = compose_trial(claim.overrides, threads)
    leased.begin(config)
    if leased.pauses_at_once():
        say("paused")
        return
    params = plain_params(trial)
    values = ", ".join(f"{name}={short(value)}" for name, value in params.items())
    say(f"resumes run {claim.run}: {values}" if claim.run else values)
    request = RunRequest(
        name=f"{study.spec.name}-{trial.number}",
        tags=_tags(claim, study, config.trainer.threads),
        parent=parent,
        resume=claim.run,
        restart_if_damaged=True,
        cost_limits=study.spec.constraints.limits(),
    )
    hooks = RunHooks(
        on_start=lambda run: trial.set_user_attr(RUN, run),
        on_epoch=leased.on_epoch,
        check_lease=leased.before_step,
        may_go_on=lambda: leased.is_paused,
        commit=leased.commit,
    )
    fit(config, request, hooks, stop=leased.stop, say=say)


def _tags(claim: Claim[Space], study: SweepStudy[SweepSpec], threads: int | None) -> dict[str, str]:
    """Return the MLflow tags of a trial's run.

    Args:
        threads: with which the trial runs; the recorded command must not depend on the machine.
    """
    words = list(claim.overrides)
    if threads and f"trainer.threads={threads}" not in words:
        words.append(f"trainer.threads={threads}")
    tags = {
        "segtune.kind": "trial",
        "segtune.sweep": study.spec.name,
        STUDY_TAG: study.id,
        OBJECTIVE_TAG: study.spec.objectives[0].tag,
        "segtune.trial": str(claim.trial.number),
        "segtune.command": command("train", *absolute_words(words)),
    }
    for name, value in plain_params(claim.trial).items():
        tags[f"segtune.param.{name}"] = str(value)
    return tags


def _check_data(study: SweepStudy[SweepSpec], config: RunConfig) -> None:
    """Refuse to compare trials that saw different data.

    Raises:
        DataError: the files changed since the sweep was started.
    """
    at_start = dataset_fingerprint(study.study)
    if at_start is None or config.dataset != compose(study.spec.base).config.dataset:
        return
    now = open_source(config.dataset).fingerprint()
    if now != at_start:
        raise DataError(
            f"dataset '{config.dataset.name}' has changed while sweep '{study.spec.name}' runs "
            f"(fingerprint {at_start[:12]}, now {now[:12]}): its trials could not be compared. "
            "Restore the data, or continue with sweep.allow_drift=true, which the study records."
        )


def _fail(study: SweepStudy[SweepSpec], claim: Claim[Space], error: Exception, say: Log) -> None:
    """End a trial that raised; after a lack of memory, enqueue it once with half the batch."""
    reason = str(error) if isinstance(error, SegtuneError) else traceback.format_exc()[-4000:]
    say(f"failed: {reason.strip().splitlines()[-1]}")
    halved = _half_batch(claim) if is_out_of_memory(error) else None
    if halved is None:
        claim.trial.set_user_attr(ERROR, reason)
        claim.trial.set_user_attr(DIVERGED, isinstance(error, Diverged))
        study.finish(claim.trial, state=TrialState.FAIL)
        return
    overrides, batch_size = halved
    params = claim.space.changed(claim.trial.params, "hp.batch_size", batch_size)
    say(
        f"out of memory: enqueued again with hp.batch_size={batch_size} and the same learning rate "
        "per item"
    )
    study.replace(claim.trial, overrides, params, reason)


def _half_batch(claim: Claim[Space]) -> tuple[list[str], int] | None:
    """Return the overrides and the size of half the batch; None if it cannot be halved again."""
    batch_size = int(compose_trial(claim.overrides, 1).hp["batch_size"])
    if batch_size < 2 or any(o.startswith("++hp.batch_size=") for o in claim.overrides):
        return None
    return [*claim.overrides, f"++hp.batch_size={batch_size // 2}"], batch_size // 2
