"""One trial: its configuration is fine-tuned under a lease, pruned, measured and told to the study."""

import traceback
import warnings
from collections.abc import Mapping
from functools import partial

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from segtune.config.commands import absolute_words, command
from segtune.config.compose import compose
from segtune.config.schema import RunConfig
from segtune.data.sources import open_source
from segtune.errors import DataError, Diverged, Interrupted, LeaseLost, SegtuneError, StorageError
from segtune.models.fitting import is_out_of_memory
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest
from segtune.sweeping.lease import Lease
from segtune.sweeping.progress import NUM_EPOCHS
from segtune.sweeping.pulse import Pulse
from segtune.sweeping.records import DIVERGED, ERROR, RUN, plain_params
from segtune.sweeping.space_building import compose_trial
from segtune.sweeping.study import Claim, SweepStudy
from segtune.training.fit import fit
from segtune.training.result import RunResult

_TAKEN_OVER = "was taken over by another worker; this one leaves it"


def run_trial(
    study: SweepStudy, claim: Claim, parent: str, threads: int, stop: StopRequest, say: Log
) -> None:
    """Runs a claimed trial to its end, or gives it back when `stop` asks for that.

    Args:
        parent: run id of the sweep.
        threads: CPU threads of the trial.

    Raises:
        Interrupted: asked to stop; the trial was given back.
        DataError: the dataset cannot be used, by this trial or any other.
        StorageError: a store is gone.
    """
    trial = claim.trial
    try:
        pulses: list[Pulse] = []
        renewed = partial(_renewed, study, stop, pulses)
        with Lease(study.storage, trial, study.holder, study.spec.lease, renewed) as lease:
            try:
                _fit(study, claim, parent, threads, stop, lease, pulses, say)
            except (Interrupted, DataError, StorageError):
                study.release(trial)
                raise
            except (LeaseLost, UpdateFinishedTrialError):
                raise
            except Exception as error:  # one trial's fault must not end the sweep
                _failed(study, claim, error, say)
    except (LeaseLost, UpdateFinishedTrialError):
        say(_TAKEN_OVER)


def _fit(
    study: SweepStudy, claim: Claim, parent: str, threads: int, stop: StopRequest, lease: Lease,
    pulses: list[Pulse], say: Log,
) -> None:  # fmt: skip
    trial = claim.trial
    config = compose_trial(claim.overrides, threads)
    num_epochs = int(config.hp["num_epochs"])
    if config.trainer.minutes is None:  # else the training chooses how many epochs fit
        trial.set_user_attr(NUM_EPOCHS, num_epochs)
    _check_data(study, config)
    pulse = Pulse(trial, config, len(open_source(config.dataset).images("train")))
    pulses.append(pulse)

    def guard() -> None:
        lease.check()
        pulse.step()

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        lease.check()
        try:
            with warnings.catch_warnings():
                # an epoch that a killed worker had reported is trained again, with the same value
                warnings.filterwarnings("ignore", message="The reported value is ignored")
                trial.report(metrics["val/miou"], epoch)
        except UpdateFinishedTrialError:
            raise LeaseLost(_TAKEN_OVER) from None
        pulse.validated(epoch)
        _look(study, stop)
        return (
            epoch + 1 < num_epochs and trial.should_prune()
        )  # after its last epoch there is nothing left to save

    def commit(result: RunResult) -> None:
        lease.check()
        _tell(study, trial, result)

    begun = f"goes on with run {claim.run}: " if claim.run else ""
    say(begun + ", ".join(f"{k}={_short(v)}" for k, v in plain_params(trial).items()))
    tags = {
        "segtune.kind": "trial",
        "segtune.sweep": study.spec.name,
        "segtune.trial": str(trial.number),
    }
    words = [*claim.overrides, *([f"trainer.threads={threads}"] if config.trainer.threads else [])]
    tags["segtune.command"] = command("train", *absolute_words(words))
    tags |= {f"segtune.param.{k}": str(v) for k, v in plain_params(trial).items()}
    fit(
        config,
        name=f"{study.spec.name}-{trial.number}",
        tags=tags,
        parent=parent,
        resume=claim.run,
        anew=True,
        on_start=lambda run: trial.set_user_attr(RUN, run),
        on_epoch=on_epoch,
        limits=study.spec.constraints.limits(),
        guard=guard,
        commit=commit,
        stop=stop,
        say=say,
    )


def _check_data(study: SweepStudy, config: RunConfig) -> None:
    """Refuses to compare trials that saw other data than the first ones.

    Raises:
        DataError: the files changed since the sweep was started.
    """
    then = study.dataset
    if then is None or config.dataset != compose(study.spec.base).config.dataset:
        return
    now = open_source(config.dataset).fingerprint()
    if now != then:
        raise DataError(
            f"dataset '{config.dataset.name}' has changed while sweep '{study.spec.name}' runs (fingerprint "
            f"{then[:12]}, now {now[:12]}): its trials could not be compared. Restore the data, or go on all the "
            "same, on the record, with sweep.allow_drift=true."
        )


def _renewed(study: SweepStudy, stop: StopRequest, pulses: list[Pulse]) -> None:
    """What is done as often as the lease is renewed."""
    study.show_life()
    for pulse in pulses:
        pulse.tell()
    _look(study, stop)


def _look(study: SweepStudy, stop: StopRequest) -> None:
    """Passes on what was asked from another shell; a signal that comes while the study is read is kept."""
    if study.stop_asked():
        stop.requested = True


def _tell(study: SweepStudy, trial: optuna.Trial, result: RunResult) -> None:
    cost = dict(result.cost)
    trial.set_user_attr("cost", cost)
    for name, limit in study.spec.constraints.limits().items():
        if name in cost:
            trial.set_constraint(name, cost[name] / limit - 1.0)
    if result.state == "finished":
        study.finish(trial, result.miou)
    else:
        trial.set_user_attr("ended", result.state)
        study.finish(trial, state=TrialState.PRUNED)


def _failed(study: SweepStudy, claim: Claim, error: Exception, say: Log) -> None:
    """Ends a trial that raised; one that ran out of memory is tried once more with half the batch."""
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
        f"out of memory: goes on as a configuration of its own with hp.batch_size={batch_size}, lr per item kept"
    )
    study.replace(claim.trial, overrides, params, reason)


def _half_batch(claim: Claim) -> tuple[list[str], int] | None:
    """The overrides with half the batch; None where that was tried already, or no half is left."""
    batch_size = int(compose_trial(claim.overrides, 1).hp["batch_size"])
    if batch_size < 2 or any(o.startswith("++hp.batch_size=") for o in claim.overrides):
        return None
    return [*claim.overrides, f"++hp.batch_size={batch_size // 2}"], batch_size // 2


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
