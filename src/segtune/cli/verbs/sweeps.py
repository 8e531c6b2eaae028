"""sweep, status, stop, retry and worker: start a study of runs, and steer it."""

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


def _sweep(call: Call) -> Outcome:
    from segtune.api import experiments

    if not call.names and not call.overrides and not call.flag("dry-run"):
        return _files()
    name = call.one_name("sweep")
    if call.flag("dry-run") or "sweep.dry_run=true" in call.overrides:
        plan = experiments.plan_sweep(name, *call.overrides)
        return Outcome(plan.to_json(), plan.lines())
    result = experiments.sweep(name, *call.overrides)
    failed = result.counts.failed
    again = command("retry", result.name, tracking=result.tracking)
    retry = (
        [f"to try the failed trials again, once their reason is gone: {again}"] if failed else []
    )
    lines = [
        f"sweep {result.name}: {result.counts.finished} finished, {result.counts.pruned} pruned, "
        f"{failed} failed, {result.seconds:.0f} s",
        f"best: {result.best.name} ({result.best.id}), val mIoU {result.best.miou:.4f}",
        *retry,
        f"next: {command('compare', result.name, tracking=result.tracking)}",
        *page_lines(experiments.runs_page(result.tracking)),
    ]
    return Outcome(result.to_json(), lines)


def _files() -> Outcome:
    """The sweep files with their questions."""
    from segtune.sweeping.listing import sweep_files

    rows = sweep_files()
    width = max((len(r.name) for r in rows), default=0)
    data = [{"sweep": r.name, "file": str(r.path), "question": r.question} for r in rows]
    lines = [*(r.line(width) for r in rows), "", f"start one with: {command('sweep', 'NAME')}"]
    return Outcome({"files": data}, lines)


def _started(root: str) -> Outcome:
    """The sweeps of a store with their state and counts."""
    from segtune.config.schema import TrackingConfig
    from segtune.sweeping.listing import started_sweeps

    rows = started_sweeps(root)
    width = max((len(r.name) for r in rows), default=0)
    none = f"no sweep was started in '{root}'; what can be started: {command('sweep')}"
    more = f"more of one: {command('status', 'NAME', tracking=TrackingConfig(root=root))}"
    return Outcome(
        {"sweeps": [r.to_json() for r in rows]},
        [*(r.line(width) for r in rows), "", more] if rows else [none],
    )


def _status(call: Call) -> Outcome:
    from segtune.api import experiments

    if not call.names:
        return _started(call.options.get("tracking.root", "mlruns"))
    state = experiments.status(call.one_name("sweep"), **_study_options(call))
    return Outcome(state.to_json(), state.lines())


def _stop(call: Call) -> Outcome:
    from segtune.api import experiments

    name = call.one_name("sweep")
    state = experiments.stop(name, wait=60.0, **_study_options(call))
    return Outcome(
        state.to_json(), [*state.lines(), f"asked to stop. Continue with: {state.command}"]
    )


def _retry(call: Call) -> Outcome:
    from segtune.api import experiments

    name, study = call.one_name("sweep"), _study_options(call)
    count = experiments.retry(name, **study)
    lines = [f"{count} failed trials wait again. Next: {experiments.status(name, **study).command}"]
    return Outcome({"sweep": name, "retried": count}, lines)


def _worker(call: Call) -> Outcome:
    from segtune.api import experiments

    storage = call.options.get("sweep.storage")
    state = experiments.worker(call.one_name("sweep"), storage=storage, **store_options(call))
    return Outcome(state.to_json(), state.lines())


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
        "Show the progress of a sweep, wherever it runs; without a name, list those of the store.",
        "segtune status quickstart",
        names="[SWEEP]",
        options=_STUDY,
        completes=("sweep",),
    ),
    "stop": Verb(
        _stop,
        "Stop a sweep; unfinished trials return to the queue.",
        "segtune stop quickstart",
        names="SWEEP",
        options=_STUDY,
        completes=("sweep",),
    ),
    "retry": Verb(
        _retry,
        "Put the failed trials of a sweep back into the queue.",
        "segtune retry quickstart",
        names="SWEEP",
        options=_STUDY,
        completes=("sweep",),
    ),
    "worker": Verb(
        _worker,
        "Add one worker to a sweep that runs.",
        "segtune worker camvid_templates",
        names="SWEEP",
        options=(STORAGE, *STORE, EXPERIMENT),
        completes=("sweep",),
    ),
}
