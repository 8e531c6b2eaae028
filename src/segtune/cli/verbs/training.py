"""train: fine-tune one model."""

import json
from typing import TYPE_CHECKING

from segtune.cli.asking import terminal_ask
from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.cli.verbs.finding import page_lines
from segtune.config.commands import command

if TYPE_CHECKING:
    from segtune.config.schema import TrackingConfig
    from segtune.training.result import RunResult


def _train(call: Call) -> Outcome:
    from segtune.api import experiments

    if call.flag("print-config"):
        return _print_config(call)
    result = experiments.train(*call.overrides, ask=terminal_ask())
    tracking = experiments.compose(*call.overrides).config.tracking
    lines = [
        f"run {result.run_id} {result.state}: val mIoU {result.miou:.4f}",
        f"{result.kind}: {result.segmenter}",
        f"next: {command('compare', result.run_id, tracking=tracking)}",
        _use(result, tracking),
        *page_lines(experiments.runs_page(tracking)),
    ]
    return Outcome(result.to_json(), lines)


def _use(result: "RunResult", tracking: "TrackingConfig") -> str:
    """Say how to use the trained model."""
    if result.kind != "segmenter":
        return f"to use it, name {result.uri} among the labelers of a workflow: docs/workflows.md"
    from segtune.tracking.store import open_store
    from segtune.tracking.suggesting import predict_command

    return f"next: {predict_command(open_store(tracking), result.uri)}"


def _print_config(call: Call) -> Outcome:
    """Show the composed config, one `key: value` line each, with the origin of the value."""
    from segtune.api import experiments
    from segtune.config.keys import flatten

    composed = experiments.compose(*call.overrides)
    config = composed.config.model_dump(mode="json")
    shown = {k: v for k, v in flatten(config) if not k.startswith("template.hyperparameters.")}
    rows = {k: f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in shown.items()}
    width = min(60, max(map(len, rows.values())))
    origins = composed.origins
    lines = [f"{row:<{width}}  # {origins.get(key, 'default')}" for key, row in rows.items()]
    return Outcome({"config": config, "origins": dict(origins)}, lines)


VERBS = {
    "train": Verb(
        _train,
        "Fine-tune one segmenter, or a labeler of its regions (kind=labeler).",
        "segtune train dataset=street template=swift hp.num_epochs=10",
        options=(
            Option(
                "print-config", "print the composed config and the origin of each value", "flag"
            ),
        ),
        passes=("*",),
    ),
}
