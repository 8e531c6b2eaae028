"""train: fine-tunes one model."""

import json

from segtune.cli.declaration import Call, Option, Outcome, Verb
from segtune.cli.verbs.finding import page_lines
from segtune.config.commands import command


def _train(call: Call) -> Outcome:
    from segtune.api import experiments

    if call.flag("print-config"):
        return _print_config(call)
    result = experiments.train(*call.overrides)
    kind = result.kind
    lines = [
        f"run {result.run_id} {result.state}: val mIoU {result.miou:.4f}",
        f"{kind}: {result.segmenter}",
    ]
    tracking = experiments.compose(*call.overrides).config.tracking
    lines.append(f"next: {command('compare', result.run_id, tracking=tracking)}")
    if kind == "segmenter":
        from segtune.tracking.store import open_store
        from segtune.tracking.suggesting import predict_command

        lines.append(f"next: {predict_command(open_store(tracking), result.uri)}")
    else:
        lines.append(
            f"to use it, name {result.uri} among the labelers of a workflow: docs/workflows.md"
        )
    return Outcome(result.to_json(), [*lines, *page_lines(experiments.runs_page(tracking))])


def _print_config(call: Call) -> Outcome:
    """The composed config, one `key: value` line each, with the origin of the value."""
    from segtune.api import experiments
    from segtune.config.keys import flatten

    composed = experiments.compose(*call.overrides)
    config = composed.config.model_dump(mode="json")
    shown = [(k, v) for k, v in flatten(config) if not k.startswith("template.hyperparameters.")]
    rows = [f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in shown]
    width = min(60, max(map(len, rows)))
    keys = [k for k, _ in shown]
    lines = [
        f"{r:<{width}}  # {composed.origins.get(k, 'default')}"
        for r, k in zip(rows, keys, strict=True)
    ]
    return Outcome({"config": config, "origins": dict(composed.origins)}, lines)


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
