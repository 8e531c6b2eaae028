"""sweep, status, stop, retry and worker: start a study of runs, and steer it."""

import os
from typing import Any

from segtune.cli.declaration import (
    EXPERIMENT,
    STORAGE,
    STORE,
    Call,
    Option,
    Outcome,
    Verb,
    store_options,
)
from segtune.cli.verbs.finding import page_lines
from segtune.config.commands import command
from segtune.config.defaults import ROOT

_STOP_SECONDS = 60.0  # that `stop` waits for the workers


def _sweep(call: Call) -> Outcome:
    from segtune.api import experiments, sweeps

    if not call.names and not call.overrides and not call.flag("dry-run"):
        return _list_files()
    name = call.one_name("sweep")
    if call.flag("dry-run") or "sweep.dry_run=true" in call.overrides:
        plan = sweeps.plan_sweep(name, *call.overrides)
        return Outcome(plan.to_json(), plan.lines())
    result = sweeps.sweep(name, *call.overrides)
    counts, best = result.counts, result.best
    values = {name: v for name, v in result.values.items() if name != "val/miou"}
    others = "".join(f", {name} {value:.4g}" for name, value in values.items())
    lines = [
        f"sweep {result.name}: {counts.finished} finished, {counts.pruned} pruned, "
        f"{counts.failed} failed, {result.seconds:.0f} s",
        f"best: {best.name} ({best.id}), val mIoU {best.miou:.4f}{others}",
    ]
    if counts.failed:
        retry = command("retry", result.name, tracking=result.tracking)
        lines.append(f"to try the failed trials again, after you removed the cause: {retry}")
    lines.append(f"next: {command('compare', result.name, tracking=result.tracking)}")
    lines += page_lines(experiments.runs_page(result.tracking))
    return Outcome(result.to_json(), lines)


def _list_files() -> Outcome:
    """List the sweep files with their questions."""
    from segtune.sweeping.listing import sweep_files

    files = sweep_files()
    width = max((len(f.name) for f in files), default=0)
    data = [{"sweep": f.name, "file": str(f.path), "question": f.question} for f in files]
    lines = [*(f.line(width) for f in files), "", f"start one with: {command('sweep', 'NAME')}"]
    return Outcome({"files": data}, lines)


def _list_started(root: str) -> Outcome:
    """List the sweeps of a store with their state and counts."""
    from segtune.config.schema import TrackingConfig
    from segtune.sweeping.listing import started_sweeps

    sweeps = started_sweeps(root)
    if not sweeps:
        line = f"'{root}' holds no sweep; to see the sweeps that you can start: {command('sweep')}"
        return Outcome({"sweeps": []}, [line])
    width = max(len(s.name) for s in sweeps)
    details = command("status", "NAME", tracking=TrackingConfig(root=root))
    lines = [*(s.line(width) for s in sweeps), "", f"details of a sweep: {details}"]
    return Outcome({"sweeps": [s.to_json() for s in sweeps]}, lines)


def _status(call: Call) -> Outcome:
    from segtune.api import sweeps

    if not call.names:
        return _list_started(call.options.get("tracking.root", ROOT))
    if _is_search(call):
        from segtune import sweeping

        found = sweeping.status(call.names[0], call.options.get("sweep.storage"))
        return Outcome(found.to_json(), found.lines())
    state = sweeps.status(call.one_name("sweep"), **_study_options(call))
    return Outcome(state.to_json(), state.lines())


def _stop(call: Call) -> Outcome:
    from segtune.api import sweeps

    name = call.one_name("sweep")
    if _is_search(call):
        from segtune import sweeping

        found = sweeping.stop(name, call.options.get("sweep.storage"), _STOP_SECONDS)
        lines = [*found.lines(), "asked to stop. The command that started it continues it."]
        return Outcome(found.to_json(), lines)
    state = sweeps.stop(name, wait=_STOP_SECONDS, **_study_options(call))
    lines = [*state.lines(), f"asked to stop. Continue with: {state.command}"]
    return Outcome(state.to_json(), lines)


def _retry(call: Call) -> Outcome:
    from segtune.api import sweeps

    name, study = call.one_name("sweep"), _study_options(call)
    count = sweeps.retry(name, **study)
    following = sweeps.status(name, **study).command
    line = f"{count} failed trials returned to the queue. Next: {following}"
    return Outcome({"sweep": name, "retried": count}, [line])


def _worker(call: Call) -> Outcome:
    from segtune.api import sweeps

    state = sweeps.worker(call.one_name("sweep"), **_study_options(call))
    return Outcome(state.to_json(), state.lines())


def _is_search(call: Call) -> bool:
    """Whether the name is the folder of an application's search, such as `multirun/studies/a`."""
    name = call.one_name("sweep, or folder of a search")
    return os.sep in name or os.path.isfile(os.path.join(name, "journal.log"))


def _study_options(call: Call) -> dict[str, Any]:
    return {**store_options(call), "storage": call.options.get("sweep.storage")}


_STUDY = (STORAGE, STORE[0])

VERBS = {
    "sweep": Verb(
        _sweep,
        "Start, join or resume the sweep of sweeps/NAME.yaml; without a name, list the files.",
        "segtune sweep quickstart sweep.n_trials=12",
        names="[SWEEP]",
        options=(
            Option(
                "dry-run", "print the space, the forecast and the compute; start nothing", "flag"
            ),
        ),
        passes=("sweep", "*"),
        completes=("sweep",),
    ),
    "status": Verb(
        _status,
        "Show the progress of a sweep, or of the search of an application in its folder; without a "
        "name, list the sweeps of the store.",
        "segtune status quickstart",
        names="[SWEEP | FOLDER]",
        options=_STUDY,
        completes=("sweep", "file"),
    ),
    "stop": Verb(
        _stop,
        "Stop a sweep, or the search of an application; unfinished trials return to the queue.",
        "segtune stop quickstart",
        names="SWEEP | FOLDER",
        options=_STUDY,
        completes=("sweep", "file"),
    ),
    "retry": Verb(
        _retry,
        "Return the failed trials of a sweep to the queue.",
        "segtune retry quickstart",
        names="SWEEP",
        options=_STUDY,
        completes=("sweep",),
    ),
    "worker": Verb(
        _worker,
        "Add one worker to a running sweep.",
        "segtune worker camvid_templates",
        names="SWEEP",
        options=(STORAGE, *STORE, EXPERIMENT),
        completes=("sweep",),
    ),
}
