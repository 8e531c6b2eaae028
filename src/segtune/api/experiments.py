"""The verbs as functions: what the command line calls, and what Python users import from `segtune`.

Each imports its rooms when it is called: a fault in a config is told before torch is loaded. What applies segmenters
stands in `applying`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.runtime.log import Log

if TYPE_CHECKING:
    from segtune.config.compose import Composed
    from segtune.config.schema import TrackingConfig
    from segtune.config.template import Template
    from segtune.measure.evidence import Evidence
    from segtune.report.compare import Report
    from segtune.report.confirm import Confirmation
    from segtune.sweeping.launch import SweepResult
    from segtune.sweeping.plan import SweepPlan
    from segtune.sweeping.progress import Progress
    from segtune.tracking.listing import Listing
    from segtune.tracking.promotion import Promotion
    from segtune.tracking.store import Store
    from segtune.training.result import RunResult


def to_stderr(line: str) -> None:
    """Progress goes to standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def templates(name: str | None = None) -> "list[Template]":
    """All templates, or the one named.

    Raises:
        ConfigError: no such template.
    """
    from segtune.config.conf_files import load_template, members

    return [load_template(n) for n in ([name] if name else members("template"))]


def compose(*overrides: str) -> "Composed":
    """The checked config of a run, and where each value came from.

    Raises:
        ConfigError: what cannot be composed.
    """
    from segtune.config.compose import compose as compose_run

    return compose_run(overrides)


def train(*overrides: str, say: Log = to_stderr) -> "RunResult":
    """Fine-tunes a segmenter, or a labeler: `train("dataset=street", "template=swift", "hp.num_epochs=5")`.

    With `resume=RUN`, goes on with a run that was interrupted, with the config that it recorded; `resume=last` with the
    newest. With `hp.num_epochs=N` beside it, a new run extends it to N epochs from its last checkpoint.

    One training at a time in a process: its random state belongs to all threads.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    from segtune.config.commands import absolute_words, command
    from segtune.data.source.places import check_place
    from segtune.errors import ConfigError

    composed = compose(*overrides)
    config, resume = composed.config, composed.config.resume
    if resume:
        more = [o for o in overrides if o.lstrip("+").startswith("hp.num_epochs=")]
        data = [o for o in overrides if o.lstrip("+").startswith("dataset.")]
        free = ("resume=", "tracking", "dataset.", "hp.num_epochs=")
        others = [o for o in overrides if not o.lstrip("+").startswith(free)]
        if others:
            raise ConfigError(
                f"resume={resume} goes on with the run's own config; leave out {', '.join(others)}. It can be "
                "extended with hp.num_epochs, and find its data with dataset.root."
            )
        from segtune.training.resuming import resumable, words_of_resumed

        given = config.tracking
        store = open_root(given.root, given.uri, given.experiment)
        epochs = int(config.hp["num_epochs"]) if more else None
        record, config = resumable(store, resume, epochs, data)
        resume = record.id
        overrides = (*words_of_resumed(record, epochs, given), *data)
    check_place(config.dataset)
    from segtune.training.fit import fit

    tags = {"segtune.command": command("train", *absolute_words(overrides))}
    return fit(config, tags=tags, resume=resume, say=say)


def plan_sweep(name: str, *overrides: str, say: Log = to_stderr) -> "SweepPlan":
    """The space, the forecast and the compute of a sweep; starts nothing.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    _check_sweep(name, overrides)
    from segtune.sweeping.plan import plan_sweep as plan

    return plan(name, list(overrides), say)


def sweep(name: str, *overrides: str, say: Log = to_stderr) -> "SweepResult":
    """Starts, joins or resumes the sweep `sweeps/NAME.yaml`: `sweep("quickstart", "sweep.n_trials=8")`.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    _check_sweep(name, overrides)
    from segtune.sweeping.launch import run_sweep

    return run_sweep(name, list(overrides), say)


def status(name: str, *, root: str = "mlruns", storage: str | None = None) -> "Progress":
    """How far a sweep is, wherever it runs.

    Raises:
        ConfigError: it was never started here.
    """
    from segtune.sweeping.control import sweep_status

    return sweep_status(name, root, storage)


def stop(
    name: str, *, root: str = "mlruns", storage: str | None = None, wait: float = 0.0
) -> "Progress":
    """Stops a sweep; unfinished trials return to the queue, and `sweep` continues it.

    Args:
        wait: seconds to wait for them at most.

    Raises:
        ConfigError: it was never started here.
    """
    from segtune.sweeping.control import stop_sweep

    return stop_sweep(name, root, storage, wait)


def retry(name: str, *, root: str = "mlruns", storage: str | None = None) -> int:
    """Enqueues a sweep's failed trials again, for `sweep` or its workers to take up; returns how many.

    Raises:
        ConfigError: it was never started here.
    """
    from segtune.sweeping.control import retry_failed

    return retry_failed(name, root, storage)


def worker(
    name: str,
    *,
    root: str = "mlruns",
    uri: str | None = None,
    experiment: str = "segtune",
    storage: str | None = None,
) -> "Progress":
    """Adds a worker to a sweep that was started elsewhere; it ends when no trial is left to start.

    Raises:
        ConfigError: it was never started here.
        Interrupted: stopped by the user; its trial returned to the queue.
    """
    from segtune.config.schema import TrackingConfig
    from segtune.sweeping.control import add_worker

    return add_worker(name, TrackingConfig(root=root, uri=uri, experiment=experiment), storage)


def compare(
    *names: str,
    baseline: str | None = None,
    split: str = "val",
    output: str | Path | None = None,
    root: str = "mlruns",
    uri: str | None = None,
    experiment: str = "segtune",
    storage: str | None = None,
) -> "Report":
    """Writes the comparison report of sweeps, `NAME:confirmed`, runs and registered versions.

    Args:
        baseline: name or run id of the candidate that the others are compared with; by default the first of two that
            were named, else the best.
        split: whose evidence is compared.
        storage: address of a sweep's study, where the store does not know it.

    Raises:
        ConfigError: nothing that can be compared: an unfinished run, no evidence, other classes or splits.
        StorageError: the report cannot be written.
    """
    from segtune.report.compare import compare as compare_runs

    opened = open_root(root, uri, experiment)
    return compare_runs(opened, names, Path(output) if output else None, baseline, split, storage)


def promote(
    name: str,
    model: str,
    *gate: str,
    root: str = "mlruns",
    uri: str | None = None,
    experiment: str = "segtune",
) -> "Promotion":
    """Registers a run's segmenter, or a sweep's best; it becomes champion if the gate lets it.

    Its model card is kept with the run, as `README.md`.

    Args:
        gate: `gate=NAME` for another file of `conf/gate/`, `gate.KEY=VALUE` for another limit.

    Raises:
        ConfigError: no such run, nothing that has finished, or an unknown rule.
    """
    from segtune.config.conf_files import load_gate

    rules = load_gate(gate)
    from segtune.report.card import keep_card
    from segtune.tracking.promotion import promote as promote_run
    from segtune.tracking.runs import best_run, get_run, sweep_runs

    store = open_root(root, uri, experiment)
    trials = sweep_runs(store, name)
    run = best_run(trials) if trials else get_run(store, name.removeprefix("runs:/"))
    promotion = promote_run(store, run, model, rules)
    if promotion.split:
        keep_card(store, run, promotion.split)
    return promotion


def rollback(model: str, *, root: str = "mlruns", uri: str | None = None) -> tuple[int, int]:
    """Goes back to the champion before the present one; returns (version now, version before).

    Raises:
        ConfigError: no such model, or no champion before this one.
    """
    from segtune.tracking.promotion import rollback as roll_back

    return roll_back(open_root(root, uri), model)


def confirm(
    name: str,
    *,
    top: int = 3,
    seeds: int = 3,
    root: str = "mlruns",
    uri: str | None = None,
    experiment: str = "segtune",
    say: Log = to_stderr,
) -> "Confirmation":
    """Retrains a sweep's best configurations with new seeds; reports how much the search overestimated them.

    Args:
        top: how many configurations.
        seeds: how many fresh seeds of each; what is there already is not trained again.

    Raises:
        ConfigError: no such sweep, or none of its trials has finished.
        Interrupted: stopped by the user; the same call goes on from there.
    """
    from segtune.report.confirm import confirm as confirm_sweep

    return confirm_sweep(open_root(root, uri, experiment), name, top, seeds, say)


def evaluate(
    model: str | Path,
    *overrides: str,
    split: str = "val",
    purpose: str = "evaluate",
    say: Log = to_stderr,
) -> "Evidence":
    """What a segmenter does on a split: `evaluate("models:/street@champion", split="test").scores`.

    On the dataset that its run recorded, unless the overrides name another: `"dataset=street"`.

    The evidence is kept with the segmenter's run, and the read with the dataset's entry in the store.

    Args:
        purpose: why the split is read, for the record.

    Raises:
        ConfigError: the dataset's classes are not the segmenter's.
    """
    composed = compose(*overrides)
    from segtune.evaluation.evaluate import evaluate_model

    return evaluate_model(composed, str(model), split, purpose, say)


def _check_sweep(name: str, overrides: Sequence[str]) -> None:
    """Refuses a faulty file and a dataset that is not there before the heavy libraries are loaded."""
    from segtune.data.source.places import check_place
    from segtune.sweeping.spec import load_spec

    check_place(compose(*load_spec(name, overrides).base).config.dataset)


def runs_page(tracking: "TrackingConfig") -> tuple[str, str]:
    """The command that serves the store's runs in MLflow, empty for a server, and the address of their table.

    Both are empty where the store cannot be reached.
    """
    from segtune.errors import StorageError
    from segtune.tracking.run_table import run_table
    from segtune.tracking.store import open_store

    try:
        return run_table(open_store(tracking))
    except StorageError:
        return "", ""


def list_entries(
    kind: str, *, root: str = "mlruns", uri: str | None = None, experiment: str = "segtune"
) -> "Listing":
    """What a store holds, newest first.

    Args:
        kind: `runs`, `sweeps`, `models` or `datasets`.

    Raises:
        ConfigError: another kind.
    """
    from segtune.errors import ConfigError, nearest
    from segtune.tracking.listing import KINDS, listing

    if kind not in KINDS:
        raise ConfigError(f"'{kind}' cannot be listed; {nearest(kind, KINDS)}")
    return listing(open_root(root, uri, experiment), kind)


def open_root(root: str, uri: str | None, experiment: str = "segtune") -> "Store":
    """The store of a folder, or of an MLflow server; of the runs of one experiment."""
    from segtune.config.schema import TrackingConfig
    from segtune.tracking.store import open_store

    return open_store(TrackingConfig(root=root, uri=uri, experiment=experiment))
