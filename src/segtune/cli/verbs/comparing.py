"""compare, confirm, merge, evaluate, promote, rollback: measure models, choose the champion."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from segtune.cli.declaration import (
    EXPERIMENT,
    STORAGE,
    STORE,
    Call,
    Option,
    Outcome,
    Verb,
    store_options,
    tracking_config,
)
from segtune.config.commands import command
from segtune.errors import ConfigError, PartialError

if TYPE_CHECKING:
    from segtune.config.compose import Composed
    from segtune.measure.evidence import Evidence
    from segtune.report.compare import Report


def _compare(call: Call) -> Outcome:
    from segtune.api import experiments

    options = call.given("baseline", "split", "output", "plan", "image_table")
    storage = call.options.get("sweep.storage")
    report = experiments.compare(*call.names, **options, storage=storage, **store_options(call))
    warnings = [f"! {warning}" for warning in report.facts["warnings"]]
    conclusions = [*report.facts["verdict"], *warnings] or ["no run has finished yet"]
    lines = [
        *conclusions,
        f"report: {report.html}",
        f"numbers: {report.json}, {report.csv}",
        *_next_steps(report),
    ]
    return Outcome(report.to_json(), lines)


def _next_steps(report: "Report") -> list[str]:
    return [f"next: {row['command']}  # {row['what']}" for row in report.facts.get("next", [])]


def _promote(call: Call) -> Outcome:
    from segtune.api import experiments

    workflow_words = [o for o in call.overrides if o.startswith("workflow.")]
    gate_words = [o for o in call.overrides if o not in workflow_words]
    if "workflow" in call.options:
        if call.names or gate_words:
            raise ConfigError(
                "promote workflow=NAME takes no run and no gate: its parts were judged."
            )
        return _promote_workflow(call, workflow_words)
    if workflow_words:
        raise ConfigError(f"{workflow_words[0]}: changes a workflow; name it with workflow=NAME.")
    name, model = call.one_name("run or sweep"), call.options["model"]
    promotion = experiments.promote(name, model, *gate_words, **store_options(call))
    lines = promotion.lines()
    if promotion.moved:
        lines += _use_of(call, f"models:/{promotion.model}@champion")
    exit_code = 0 if promotion.moved else PartialError.exit_code
    return Outcome(promotion.to_json(), lines, exit_code)


def _promote_workflow(call: Call, words: list[str]) -> Outcome:
    from segtune.api import prediction

    workflow, model = call.options["workflow"], call.options["model"]
    promotion = prediction.promote_workflow(workflow, model, *words, **store_options(call))
    return Outcome(promotion.to_json(), [f"{promotion.uri} {promotion.reason}"])


def _use_of(call: Call, uri: str) -> list[str]:
    from segtune.tracking.store import open_store
    from segtune.tracking.suggesting import predict_command

    tracking = tracking_config(call)
    export = command("export", model=uri, format="onnx", tracking=tracking)
    return [f"next: {predict_command(open_store(tracking), uri)}", f"next: {export}"]


def _merge(call: Call) -> Outcome:
    """Exit code 4 if no merge was better than the best run."""
    from segtune.api import merging

    merged = merging.merge(*call.names, **call.given("how"), **store_options(call))
    lines = merged.lines()
    if not merged.run_id:
        return Outcome(merged.to_json(), lines, PartialError.exit_code)
    tracking = tracking_config(call)
    lines.append(f"next: {command('compare', merged.run_id, *call.names, tracking=tracking)}")
    return Outcome(merged.to_json(), [*lines, *_use_of(call, f"runs:/{merged.run_id}")])


def _rollback(call: Call) -> Outcome:
    from segtune.api import experiments

    model = call.options["model"]
    champion, replaced = experiments.rollback(model, **store_options(call))
    line = f"models:/{model}@champion is version {champion} again; it was version {replaced}"
    return Outcome({"model": model, "version": champion, "before": replaced}, [line])


def _confirm(call: Call) -> Outcome:
    from segtune.api import experiments

    name, options = call.one_name("sweep"), call.given("top", "seeds")
    confirmation = experiments.confirm(name, **options, **store_options(call))
    lines = [*confirmation.lines(), *_next_steps(confirmation.report)]
    return Outcome(confirmation.to_json(), lines)


def _evaluate(call: Call) -> Outcome:
    from segtune.api import experiments

    model = call.one_name("run, models:/ URI or folder")
    evidence = experiments.evaluate(model, *call.overrides, **call.given("split", "purpose"))
    split = evidence.origin.split
    data = {
        "model": model,
        "dataset": evidence.origin.dataset,
        "split": split,
        "metrics": evidence.metrics(f"{split}/"),
        "images": len(evidence.names),
        "interval": evidence.interval and asdict(evidence.interval),
        "cost": dict(evidence.origin.cost),
    }
    following = _after_evaluation(model, evidence, experiments.compose(*call.overrides))
    return Outcome(data, [*evidence.lines(), f"next: {following}"])


def _after_evaluation(model: str, evidence: "Evidence", composed: "Composed") -> str:
    """Return the next command: predict with a registered model or a folder, promote a run."""
    from segtune.models.folder import MANIFEST

    config = composed.config
    is_folder = (Path(model) / MANIFEST).is_file()  # a sweep and its data may have one name
    if not model.startswith("models:/") and not is_folder:
        dataset = evidence.origin.dataset
        return command("promote", model, tracking=config.tracking, model=dataset)
    from segtune.tracking.store import open_store
    from segtune.tracking.suggesting import predict_command

    return predict_command(
        open_store(config.tracking), model, config.dataset if is_folder else None
    )


_MERGE = "segtune.api.merging:merge"
_COMPARE = "segtune.api.experiments:compare"
_CONFIRM = "segtune.api.experiments:confirm"
_EVALUATE = "segtune.api.experiments:evaluate"

VERBS = {
    "compare": Verb(
        _compare,
        "Write the comparison report of sweeps, runs and registered models.",
        "segtune compare quickstart",
        names="SWEEP | RUN | URI …",
        options=(
            Option(
                "baseline",
                "candidate (name or run id) that the others are compared with",
                value="NAME",
                default_text="the first of two names, else the best candidate",
            ),
            Option("split", "compare the evidence of this split", "text", _COMPARE),
            Option(
                "output",
                "folder of the report",
                "path",
                value="DIR",
                default_text="reports/NAME in tracking.root",
                completes="file",
            ),
            Option(
                "plan",
                "say how many seeds or images would show this difference, in points of mIoU",
                "number",
                _COMPARE,
                default_text="no plan",
                above=0,
            ),
            Option(
                "image_table",
                "CSV file of properties of the images; the report shows the mIoU by each column",
                "path",
                value="FILE.csv",
                default_text="none",
                completes="file",
            ),
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
            Option("model", "name to register the segmenter under", value="NAME", required=True),
            Option(
                "workflow",
                "file of conf/workflow/ to register instead",
                value="NAME",
                completes="workflow",
            ),
            *STORE,
            EXPERIMENT,
        ),
        passes=("gate", "workflow"),
        completes=("study", "run"),
    ),
    "merge": Verb(
        _merge,
        "Merge runs of one configuration and several seeds into one segmenter, if it measures "
        "better on val than the best of them.",
        "segtune merge RUN RUN how=weights",
        names="RUN RUN …",
        options=(
            Option(
                "how",
                "average the weights (the cost of one model) or the logits (the cost of all); auto "
                "takes the weights if they are better, else the logits",
                "text",
                _MERGE,
            ),
            *STORE,
            EXPERIMENT,
        ),
        completes=("run", "model"),
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
            Option("top", "number of configurations", "integer", _CONFIRM, above=0),
            Option("seeds", "number of new seeds for each", "integer", _CONFIRM, above=0),
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
            Option("split", "split to score", "text", _EVALUATE),
            Option("purpose", "reason for reading the split, for the record", "text", _EVALUATE),
        ),
        passes=("*",),
        completes=("study", "run", "model", "file"),
    ),
}
