"""The verbs as functions: the command line calls them, and Python users import them from `segtune`.

Each function imports its rooms when it is called, so that a mistake in a config is reported before
torch is loaded. `segtune.api.prediction` holds the functions that use a segmenter.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.api.proposing import completed
from segtune.config.defaults import EXPERIMENT, ROOT
from segtune.plugins.loading import load_plugins
from segtune.runtime.log import Log, to_stderr

if TYPE_CHECKING:
    from segtune.config.compose import Composed
    from segtune.config.schema import RunConfig, TrackingConfig
    from segtune.config.template import Template
    from segtune.data.proposal.choice import Ask
    from segtune.measure.evidence import Evidence
    from segtune.report.compare import Report
    from segtune.report.confirm import Confirmation
    from segtune.tracking.listing import Listing
    from segtune.tracking.promotion import Promotion
    from segtune.tracking.store import Store
    from segtune.training.result import RunResult


def templates(name: str | None = None) -> "list[Template]":
    """Return all templates, or the template of a name.

    Raises:
        ConfigError: no such template.
    """
    from segtune.config.conf_files import load_template, members

    return [load_template(n) for n in ([name] if name else members("template"))]


def compose(*overrides: str) -> "Composed":
    """Return the checked config of a run, with the origin of each value.

    Raises:
        ConfigError: an unknown key, a wrong value, or files that cannot be composed.
    """
    from segtune.config.compose import compose as compose_run

    return compose_run(overrides)


def train(
    *overrides: str,
    plugins: Sequence[str] = (),
    say: Log = to_stderr,
    ask: "Ask | None" = None,
) -> "RunResult":
    """Fine-tune a segmenter or a labeler.

    `train("dataset=street", "template=swift", "hp.num_epochs=5")` starts a new run. With
    `resume=RUN`, an interrupted run continues with the config that it recorded; `resume=last` names
    the newest run. With `hp.num_epochs=N` beside it, a new run extends that run to N epochs, from
    its last checkpoint.

    Keys of `dataset=folder` that are missing are taken from its files (`segtune.api.proposing`).

    A process can train one model at a time: all threads share its random state.

    Args:
        plugins: files or modules that register parts of your own.
        ask: chooses between several ways to read a dataset; see `segtune.data.proposal.choice`.

    Raises:
        SegtuneError: see `segtune.errors`.
    """
    from segtune.config.commands import absolute_words, command
    from segtune.data.source.places import check_place

    load_plugins(plugins)
    words, _ = completed(overrides, say, ask)
    composed = compose(*words)
    config = composed.config
    run_id: str | None = None
    if config.resume:
        run_id, config, words = _resumed(composed)
    check_place(config.dataset)
    from segtune.training.fit import fit
    from segtune.training.request import RunRequest

    tags = {"segtune.command": command("train", *absolute_words(words))}
    return fit(config, RunRequest(tags=tags, resume=run_id), say=say)


def _resumed(composed: "Composed") -> "tuple[str, RunConfig, list[str]]":
    """Return the id and the config of the run to resume, and words that train the same config."""
    from segtune.errors import ConfigError
    from segtune.tracking.recorded import recorded_config
    from segtune.training.ranks import decisions, rank
    from segtune.training.resuming import resumable, words_of_resumed

    resume, tracking = composed.config.resume, composed.config.tracking
    assert resume is not None
    keys = {word: word.lstrip("+").partition("=")[0] for word in composed.overrides}
    data_words = [word for word, key in keys.items() if key.startswith("dataset.")]
    extends = "hp.num_epochs" in keys.values()
    refused = [word for word, key in keys.items() if not _may_change_on_resume(key)]
    if refused:
        raise ConfigError(
            f"resume={resume} continues the run with its own config; leave out "
            f"{', '.join(refused)}. hp.num_epochs extends a run, dataset.root says where its data "
            "is now."
        )
    store = open_root(tracking.root, tracking.uri, tracking.experiment)
    if rank():  # the first process checked the run, and may have begun another that extends it
        run_id = decisions().run_id
        return run_id, recorded_config(store, run_id), []
    epochs = int(composed.config.hp["num_epochs"]) if extends else None
    record, config = resumable(store, resume, epochs, data_words)
    return record.id, config, [*words_of_resumed(record, epochs, tracking), *data_words]


def _may_change_on_resume(key: str) -> bool:
    return key in ("resume", "hp.num_epochs") or key.startswith(("tracking", "dataset."))


def compare(  # 10 parameters: keyword arguments of the public API
    *names: str,
    baseline: str | None = None,
    split: str = "val",
    output: str | Path | None = None,
    plan: float | None = None,
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
    storage: str | None = None,
    image_table: str | Path | None = None,
) -> "Report":
    """Write the comparison report of sweeps, `NAME:confirmed`, runs and registered versions.

    Args:
        baseline: name or run id of the candidate that the others are compared with; by default the
            first of two names, else the best candidate.
        split: the report compares the evidence of this split.
        plan: a difference in points of mIoU; the verdict then says how many seeds or images would
            show it.
        storage: address of a sweep's study, if the store does not know it.
        image_table: CSV file with a row per image; the report shows the mIoU of the images by each
            of its columns.

    Raises:
        ConfigError: nothing to compare: an unfinished run, no evidence, other classes or splits.
        DataError: `image_table` is no table of images.
        StorageError: the report cannot be written.
    """
    from segtune.report.compare import compare as compare_runs

    store = open_root(root, uri, experiment)
    folder, table = (Path(path) if path else None for path in (output, image_table))
    return compare_runs(store, names, folder, baseline, split, storage, plan, table)


def promote(
    name: str,
    model: str,
    *gate: str,
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
) -> "Promotion":
    """Register the segmenter of a run, or of a sweep's best run, and apply the promotion gate.

    If every rule of the gate passes, the new version becomes champion. The run keeps its model card
    as `README.md`.

    Args:
        name: sweep, or id of a run.
        model: registered name.
        gate: `gate=NAME` for another file of `conf/gate/`, `gate.KEY=VALUE` for another limit.

    Raises:
        ConfigError: no such run, no finished run, or an unknown rule.
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


def rollback(model: str, *, root: str = ROOT, uri: str | None = None) -> tuple[int, int]:
    """Make the previous champion the champion again; return (version now, version before).

    Raises:
        ConfigError: no such model, or no earlier champion.
    """
    from segtune.tracking.promotion import rollback as roll_back

    return roll_back(open_root(root, uri), model)


def confirm(
    name: str,
    *,
    top: int = 3,
    seeds: int = 3,
    root: str = ROOT,
    uri: str | None = None,
    experiment: str = EXPERIMENT,
    say: Log = to_stderr,
) -> "Confirmation":
    """Retrain the best configurations of a sweep with new seeds.

    The report says how much the search overestimated them.

    Args:
        top: number of configurations.
        seeds: number of new seeds for each; finished runs are not trained again.

    Raises:
        ConfigError: no such sweep, or none of its trials has finished.
        Interrupted: stopped by the user; the same call continues.
    """
    from segtune.report.confirm import confirm as confirm_sweep

    return confirm_sweep(open_root(root, uri, experiment), name, top, seeds, say)


def evaluate(
    model: str | Path,
    *overrides: str,
    split: str = "val",
    purpose: str = "evaluate",
    plugins: Sequence[str] = (),
    say: Log = to_stderr,
) -> "Evidence":
    """Score a segmenter on a split: `evaluate("models:/street@champion", split="test").scores`.

    The dataset is the one that the run of the segmenter recorded, or the one that the overrides
    name: `"dataset=street"`. The run keeps the evidence. The dataset's entry in the store records
    who read the split.

    Args:
        purpose: reason for reading the split, for the record.
        plugins: files or modules that register parts of your own.

    Raises:
        ConfigError: the dataset has other classes than the segmenter.
    """
    load_plugins(plugins)
    composed = compose(*overrides)
    from segtune.evaluation.evaluate import evaluate_model

    return evaluate_model(composed, str(model), split, purpose, say)


def runs_page(tracking: "TrackingConfig") -> tuple[str, str]:
    """Return a command that serves the runs of a store in MLflow, and the address of their table.

    The command is empty for a server. Both are empty if the store cannot be reached.
    """
    from segtune.errors import StorageError
    from segtune.tracking.run_table import run_table
    from segtune.tracking.store import open_store

    try:
        return run_table(open_store(tracking))
    except StorageError:
        return "", ""


LISTED = ("runs", "sweeps", "models", "datasets")


def list_entries(
    kind: str, *, root: str = ROOT, uri: str | None = None, experiment: str = EXPERIMENT
) -> "Listing":
    """List the entries of a store, newest first.

    Args:
        kind: `runs`, `sweeps`, `models` or `datasets`.

    Raises:
        ConfigError: another kind.
    """
    from segtune.errors import ConfigError, nearest

    if kind not in LISTED:
        raise ConfigError(f"'{kind}' cannot be listed; {nearest(kind, LISTED)}")
    from segtune.tracking.listing import listing

    return listing(open_root(root, uri, experiment), kind)


def open_root(root: str = ROOT, uri: str | None = None, experiment: str = EXPERIMENT) -> "Store":
    """Open the store of a folder or of an MLflow server, at one experiment."""
    from segtune.config.schema import TrackingConfig
    from segtune.tracking.store import open_store

    return open_store(TrackingConfig(root=root, uri=uri, experiment=experiment))
