"""One worker: a warm process that pulls trials until the total is spoken for.

torch, the libraries and the decoded dataset stay in memory between trials.
"""

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import optuna
from optuna.trial import TrialState

from segtune.errors import ConfigError, DataError, Interrupted, SegtuneError, StorageError
from segtune.stopping import StopRequest
from segtune.sweeping.space import Space, build_space, compose_trial
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.study import RUN, SweepStudy
from segtune.training import fit


def run_worker(spec: SweepSpec, folder: Path, parent: str, threads: int, stop: StopRequest, label: str) -> None:
    """Pulls and runs trials.

    Args:
        parent: run id of the sweep.
        threads: CPU threads of each trial.
        label: what this worker is called in its lines.

    Raises:
        Interrupted: asked to stop; the trial at hand was given back.
        DataError: the dataset cannot be used, by this trial or any other.
        StorageError: a store is gone.
    """
    space = build_space(spec)
    study = SweepStudy(folder, spec)
    study.start_work()
    try:
        while not stop.requested:
            trial = study.claim()
            if trial is None:
                return
            _run_trial(study, trial, space, parent, threads, stop, label)
    finally:
        study.end_work()
    raise Interrupted(f"sweep {spec.name} was stopped.")


def _run_trial(
    study: SweepStudy, trial: optuna.Trial, space: Space, parent: str, threads: int, stop: StopRequest, label: str
) -> None:
    def say(line: str) -> None:
        print(f"[{label} trial {trial.number}] {line}", file=sys.stderr, flush=True)

    def on_epoch(epoch: int, metrics: dict[str, float]) -> bool:
        trial.report(metrics["val/miou"], epoch)
        return epoch + 1 < num_epochs and trial.should_prune()  # after its last epoch there is nothing left to save

    resume = trial.user_attrs.get(RUN)
    overrides = space.propose(trial)
    trial.set_user_attr("overrides", overrides)
    say(
        (f"goes on with run {resume}: " if resume else "")
        + ", ".join(f"{k}={_short(v)}" for k, v in trial.params.items())
    )
    tags = {"segtune.kind": "trial", "segtune.sweep": study.spec.name, "segtune.trial": str(trial.number)}
    tags |= {f"segtune.param.{k}": str(v) for k, v in trial.params.items()}
    try:
        config = compose_trial(overrides, threads).config
        num_epochs = int(config.hp["num_epochs"])
        result = fit(
            config,
            name=f"{study.spec.name}-{trial.number}",
            tags=tags,
            parent=parent,
            resume=resume,
            on_start=lambda run: trial.set_user_attr(RUN, run),
            on_epoch=on_epoch,  # type: ignore[arg-type]  # a plain dict is a Mapping
            stop=stop,
            say=say,
        )
    except (Interrupted, DataError, StorageError):
        study.release(trial)
        raise
    except Exception as error:  # one trial's fault must not end the sweep
        reason = str(error) if isinstance(error, SegtuneError) else traceback.format_exc()
        trial.set_user_attr("error", reason[-4000:])
        study.study.tell(trial, state=TrialState.FAIL)
        say(f"failed: {reason.strip().splitlines()[-1]}")
        return
    if result.state == "pruned":
        study.study.tell(trial, state=TrialState.PRUNED)
        say("pruned")
    else:
        study.study.tell(trial, result.miou)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _stop_when_orphaned(stop: StopRequest, parent: int) -> None:
    """A worker whose launcher was killed ends after its step, as if asked to."""
    while os.getppid() == parent:
        time.sleep(1.0)
    stop.requested = True


def main(path: str, label: str) -> int:
    """Entry of a worker process; `path` is the JSON that the launcher wrote."""
    task = json.loads(Path(path).read_text(encoding="utf-8"))
    stop = StopRequest()
    threading.Thread(target=_stop_when_orphaned, args=(stop, os.getppid()), daemon=True).start()
    try:
        with stop.listening():
            spec = SweepSpec.model_validate(task["spec"])
            run_worker(spec, Path(task["folder"]), task["parent"], task["threads"], stop, label)
    except (Interrupted, KeyboardInterrupt):
        return Interrupted.exit_code
    except (ConfigError, DataError, StorageError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
