"""compare, confirm, evaluate, promote and rollback: measure models, and choose the champion."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.cli.declaration import (
    EXPERIMENT,
    STORAGE,
    STORE,
    Call,
    Option,
    Outcome,
    Verb,
    store_options,
    tracking_of,
)
from segtune.config.commands import command
from segtune.errors import ConfigError, PartialError

if TYPE_CHECKING:
    from segtune.report.compare import Report


def _compare(call: Call) -> Outcome:
    from segtune.api import experiments

    own = call.given("baseline", "split", "output")
    storage = call.options.get("sweep.storage")
    report = experiments.compare(*call.names, **own, storage=storage, **store_options(call))
    said = [*report.facts["verdict"], *(f"! {w}" for w in report.facts["warnings"])]
    lines = [
        *(said or ["no run has finished yet"]),
        f"report: {report.html}",
        f"numbers: {report.json}, {report.csv}",
        *_next(report),
    ]
    return Outcome(report.to_json(), lines)


def _next(report: "Report") -> list[str]:
    return [f"next: {row['command']}  # {row['what']}" for row in report.facts.get("next", [])]


def _promote(call: Call) -> Outcome:
    from segtune.api import experiments, prediction

    changes = [o for o in call.overrides if o.startswith("workflow.")]
    gate = [o for o in call.overrides if o not in changes]
    model, workflow = call.options["model"], call.options.get("workflow")
    if workflow is not None:
        if call.names or gate:
            raise ConfigError(
                "promote workflow=NAME takes no run and no gate: its parts were judged."
            )
        done = prediction.promote_workflow(workflow, model, *changes, **store_options(call))
        return Outcome(done.to_json(), [f"{done.uri} {done.reason}"])
    if changes:
        raise ConfigError(f"{changes[0]}: changes a workflow; name it with workflow=NAME.")
    done = experiments.promote(call.one_name("run or sweep"), model, *gate, **store_options(call))
    lines = done.lines()
    if done.moved:
        from segtune.tracking.store import open_store
        from segtune.tracking.suggesting import predict_command

        uri = f"models:/{done.model}@champion"
        use = predict_command(open_store(tracking_of(call)), uri)
        graph = command("export", model=uri, format="onnx", tracking=tracking_of(call))
        lines += [f"next: {use}", f"next: {graph}"]
    return Outcome(done.to_json(), lines, 0 if done.moved else PartialError.exit_code)


def _rollback(call: Call) -> Outcome:
    from segtune.api import experiments

    model = call.options["model"]
    now, before = experiments.rollback(model, **store_options(call))
    line = f"models:/{model}@champion is version {now} again, as before version {before}"
    return Outcome({"model": model, "version": now, "before": before}, [line])


def _confirm(call: Call) -> Outcome:
    from segtune.api import experiments

    done = experiments.confirm(
        call.one_name("sweep"), **call.given("top", "seeds"), **store_options(call)
    )
    return Outcome(done.to_json(), [*done.lines(), *_next(done.report)])


def _evaluate(call: Call) -> Outcome:
    from segtune.api import experiments

    model = call.one_name("run, models:/ URI or folder")
    done = experiments.evaluate(model, *call.overrides, **call.given("split", "purpose"))
    split = done.origin.split
    data: dict[str, Any] = {"model": model, "dataset": done.origin.dataset, "split": split}
    data |= {"metrics": done.metrics(f"{split}/"), "images": len(done.names)}
    data |= {"interval": done.interval and asdict(done.interval), "cost": dict(done.origin.cost)}
    config = experiments.compose(*call.overrides).config
    tracking, is_folder = config.tracking, Path(model).exists()
    if model.startswith("models:/") or is_folder:  # registered, or of no run
        from segtune.tracking.store import open_store
        from segtune.tracking.suggesting import predict_command

        following = predict_command(
            open_store(tracking), model, config.dataset if is_folder else None
        )
    else:
        following = command("promote", model, tracking=tracking, model=done.origin.dataset)
    return Outcome(data, [*done.lines(), f"next: {following}"])


VERBS = {
    "compare": Verb(
        _compare,
        "Write the comparison report of sweeps, runs and registered models.",
        "segtune compare quickstart",
        names="SWEEP | RUN | URI …",
        options=(
            Option(
                "baseline", "name or run id of the candidate that the others are compared with",
                value="NAME", default="the first of two that were named, else the best",
            ),
            Option("split", "split whose evidence is compared", default="val"),
            Option("output", "folder of the report", "path", "DIR", completes="file"),
            STORAGE,
            *STORE,
            EXPERIMENT,
        ),
        completes=("study", "run", "model"),
    ),
    "promote": Verb(
        _promote,
        "Register a segmenter; it becomes champion if every rule of the gate passes.",
        "segtune promote quickstart model=street",
        names="SWEEP | RUN",
        options=(
            Option("model", "name under which the segmenter is registered", value="NAME", required=True),
            Option("workflow", "file of conf/workflow/ to register instead", value="NAME", completes="workflow"),
            *STORE,
            EXPERIMENT,
        ),
        passes=("gate", "workflow"),
        completes=("study", "run"),
    ),
    "rollback": Verb(
        _rollback,
        "Make the previous champion of a model the champion again.",
        "segtune rollback model=street",
        options=(
            Option("model", "registered name", value="NAME", required=True, completes="registered"),
            *STORE,
        ),
    ),
    "confirm": Verb(
        _confirm,
        "Retrain the best configurations of a sweep with new seeds and report how much the search "
        "overestimated them.",
        "segtune confirm quickstart top=2 seeds=3",
        names="SWEEP",
        options=(
            Option("top", "how many configurations", "integer", default="3", above=0),
            Option("seeds", "how many new seeds of each", "integer", default="3", above=0),
            *STORE,
            EXPERIMENT,
        ),
        completes=("study",),
    ),
    "evaluate": Verb(
        _evaluate,
        "Score a segmenter on a split and keep the evidence.",
        "segtune evaluate models:/street@champion split=test",
        names="SWEEP | RUN | URI | FOLDER",
        options=(
            Option("split", "split that is scored", default="val"),
            Option("purpose", "why the split is read, for the record", default="evaluate"),
        ),
        passes=("*",),
        completes=("study", "run", "model", "file"),
    ),
}  # fmt: skip
