"""The verbs of the command line: each calls its function in `api`, and says what came of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from segtune.errors import ConfigError, PartialError
from segtune.verbs import data
from segtune.verbs.call import Call, Outcome, Verb

_STORE_KEYS = ("tracking.root", "tracking.uri")


def _templates(call: Call) -> Outcome:
    from segtune import api

    if not call.names:
        found = api.templates()
        lines = [f"{t.name:<14} {t.title} ({t.reference})" for t in found]
        return Outcome(
            {"templates": [t.to_json() for t in found]},
            [*lines, "\nsegtune templates NAME shows one's hyperparameters."],
        )
    template = api.templates(call.one_name("template"))[0]
    lines = [f"{template.title} ({template.reference})", ""]
    for name, declared in template.hyperparameters.items():
        lines.append(f"hp.{name:<20} {declared.kind:<10} default {declared.default!s:<12} {declared.allowed}")
        if declared.description:
            lines.append(f"   {'':<20} {declared.description}")
    return Outcome(template.to_json(), lines)


def _train(call: Call) -> Outcome:
    from segtune import api

    if call.names:
        raise ConfigError(f"'{call.names[0]}' is not key=value, e.g. dataset=street.")
    if call.flags.print_config:
        from segtune.config import flatten

        composed = api.compose(*call.overrides)
        config = composed.config.model_dump(mode="json")
        shown = [(k, v) for k, v in flatten(config) if not k.startswith("template.hyperparameters.")]
        rows = [f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in shown]
        width = min(60, max(map(len, rows)))
        keys = [k for k, _ in shown]
        lines = [f"{r:<{width}}  # {composed.origins.get(k, 'default')}" for r, k in zip(rows, keys, strict=True)]
        return Outcome({"config": config, "origins": dict(composed.origins)}, lines)
    result = api.train(*call.overrides)
    kind = result.kind
    lines = [f"run {result.run_id} {result.state}: val mIoU {result.miou:.4f}", f"{kind}: {result.segmenter}"]
    use = f"segtune predict model={result.uri} source=PATH output=DIR"
    lines.append(f"next: {use if kind == 'segmenter' else f'name {result.uri} among the labelers of a workflow'}")
    return Outcome(result.to_json(), lines)


def _sweep(call: Call) -> Outcome:
    from segtune import api

    name = call.one_name("sweep")
    if call.flags.dry_run or "sweep.dry_run=true" in call.overrides:
        plan = api.plan_sweep(name, *call.overrides)
        return Outcome(plan.to_json(), plan.lines())
    result = api.sweep(name, *call.overrides)
    lines = [
        f"sweep {result.name}: {result.counts.finished} finished, {result.counts.pruned} pruned, "
        f"{result.counts.failed} failed, {result.seconds:.0f} s",
        f"best: {result.best.name} ({result.best.id}), val mIoU {result.best.miou:.4f}",
        f"next: segtune compare {result.name}",
    ]
    return Outcome(result.to_json(), lines)


def _status(call: Call) -> Outcome:
    from segtune import api

    state = api.status(call.one_name("sweep"), **_study_options(call))
    return Outcome(state.to_json(), state.lines())


def _stop(call: Call) -> Outcome:
    from segtune import api

    name = call.one_name("sweep")
    state = api.stop(name, wait=60.0, **_study_options(call))
    return Outcome(state.to_json(), [*state.lines(), f"asked to stop. Go on with: segtune sweep {name}"])


def _retry(call: Call) -> Outcome:
    from segtune import api

    name = call.one_name("sweep")
    count = api.retry(name, **_study_options(call))
    return Outcome({"sweep": name, "retried": count}, [f"{count} failed trials wait again. Next: segtune sweep {name}"])


def _worker(call: Call) -> Outcome:
    from segtune import api

    given = call.options(("sweep.storage", *_STORE_KEYS))
    state = api.worker(call.one_name("sweep"), storage=given.get("sweep.storage"), **_store_options(given))
    return Outcome(state.to_json(), state.lines())


def _study_options(call: Call) -> dict[str, Any]:
    given = call.options(("tracking.root", "sweep.storage"))
    return {"root": given.get("tracking.root", "mlruns"), "storage": given.get("sweep.storage")}


def _compare(call: Call) -> Outcome:
    from segtune import api

    given = call.options(("baseline", "split", "output", *_STORE_KEYS))
    own = {k: given[k] for k in ("baseline", "split", "output") if k in given}
    own |= {"baseline": call.flags.baseline} if call.flags.baseline else {}
    report = api.compare(*call.names, **own, **_store_options(given))
    said = [*report.facts["verdict"], *(f"! {w}" for w in report.facts["warnings"])]
    lines = [*(said or ["no run has finished yet"]), f"report: {report.html}", f"numbers: {report.json}, {report.csv}"]
    return Outcome(report.to_json(), lines)


def _promote(call: Call) -> Outcome:
    from segtune import api, applying

    gate = [o for o in call.overrides if o.startswith(("gate=", "gate."))]
    changes = [o for o in call.overrides if o.startswith("workflow.")]
    given = call.without([*gate, *changes]).options(("model", "gate", "workflow", *_STORE_KEYS))
    if "model" not in given:
        raise ConfigError("promote needs model=NAME: under which name the segmenter is registered.")
    if "workflow" in given:
        if call.names or gate:
            raise ConfigError("promote workflow=NAME takes no run and no gate: its parts were judged.")
        done = applying.promote_workflow(given["workflow"], given["model"], *changes, **_store_options(given))
        return Outcome(done.to_json(), [f"{done.uri} {done.reason}"])
    done = api.promote(call.one_name("run or sweep"), given["model"], *gate, **_store_options(given))
    lines = [*(v.line() for v in done.verdicts), f"{done.uri} {done.reason}"]
    if done.moved:
        lines.append(f"next: segtune predict model=models:/{done.model}@champion source=PATH output=DIR")
    return Outcome(done.to_json(), lines, 0 if done.moved else PartialError.exit_code)


def _rollback(call: Call) -> Outcome:
    from segtune import api

    given = call.options(("model", *_STORE_KEYS))
    if "model" not in given:
        raise ConfigError("rollback needs model=NAME: whose champion is to be the one before.")
    now, before = api.rollback(given["model"], **_store_options(given))
    line = f"models:/{given['model']}@champion is version {now} again, as before version {before}"
    return Outcome({"model": given["model"], "version": now, "before": before}, [line])


def _confirm(call: Call) -> Outcome:
    from segtune import api

    given = call.options(("top", "seeds", *_STORE_KEYS))
    counts: dict[str, Any] = {k: _count(k, given[k]) for k in ("top", "seeds") if k in given}
    done = api.confirm(call.one_name("sweep"), **counts, **_store_options(given))
    return Outcome(done.to_json(), done.lines())


def _count(key: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"{key}={text}: a whole number of at least 1 is expected.")
    return int(text)


def _evaluate(call: Call) -> Outcome:
    from segtune import api

    own: dict[str, Any] = dict(o.split("=", 1) for o in call.overrides if o.startswith(("split=", "purpose=")))
    rest = [o for o in call.overrides if not o.startswith(("split=", "purpose="))]
    model = call.one_name("run, models:/ URI or folder")
    done = api.evaluate(model, *rest, **own)
    split = done.origin.split
    data: dict[str, Any] = {"model": model, "dataset": done.origin.dataset, "split": split}
    data |= {"metrics": done.metrics(f"{split}/"), "images": len(done.names)}
    data |= {"interval": done.interval and asdict(done.interval), "cost": dict(done.origin.cost)}
    return Outcome(data, done.lines())


def _predict(call: Call) -> Outcome:
    from segtune import applying

    own = ("model", "workflow", "source", "output", "regions", "overwrite")
    changes = [o for o in call.overrides if o.startswith("workflow.")]
    given = call.without(changes).options((*own, *_LOOKS, *_STORE_KEYS))
    sources = [*call.names, *([given["source"]] if "source" in given else [])]
    if ("model" in given) == ("workflow" in given) or not sources:
        raise ConfigError(
            "predict needs source=PATH, and either model=URI or workflow=NAME, e.g. model=models:/street@champion "
            "source=photos/."
        )
    if changes and "workflow" not in given:
        raise ConfigError(f"{changes[0]}: changes a workflow; name it with workflow=NAME.")
    looks = {k: _look(k, given[k]) for k in _LOOKS if k in given}
    named = given.get("workflow")
    result = applying.predict(
        applying.workflow(named, *changes, **_store_options(given)) if named else given["model"],
        sources,
        given.get("output", "predictions"),
        regions=given.get("regions"),
        overwrite=given.get("overwrite", "false").lower() in ("true", "1", "yes"),
        **looks,
        **_store_options(given),
    )
    done = f"{result.images} images and {result.frames} video frames"
    lines = [f"{done}: regions.json and the rest in {result.output}"]
    lines += [f"partial: {name}: {what}" for name, what in result.partial.items()]
    lines += [f"left out: {reason}" for reason in result.failed.values()]
    incomplete = result.failed or result.partial
    return Outcome(result.to_json(), lines, PartialError.exit_code if incomplete else 0)


_LOOKS: dict[str, Callable[[str], Any]] = {
    "formats": lambda text: tuple(f.strip() for f in text.strip("[]").split(",") if f.strip()),
    "min_area": int,
    "tile": int,
    "overlap": float,
    "tta": str,
    "sample_ms": float,
    "smooth": str,
    "max_pixels": int,
    "runtime": str,
}


def _look(key: str, text: str) -> Any:
    try:
        return _LOOKS[key](text)
    except ValueError:
        raise ConfigError(f"{key}={text}: a number is expected.") from None


def _store_options(given: Mapping[str, str]) -> dict[str, Any]:
    return {"root": given.get("tracking.root", "mlruns"), "uri": given.get("tracking.uri")}


VERBS = {
    "templates": Verb(
        _templates,
        "segtune templates [NAME]",
        "lists templates, or one's hyperparameters with their ranges",
        "segtune templates segformer --json",
    ),
    "check": Verb(
        data.check,
        "segtune check dataset=NAME [dataset.KEY=VALUE …] [--fix] [--labels run=RUN] [output=DIR]",
        "examines a dataset before anything trains, and offers what repairs it",
        "segtune check dataset=folder dataset.root=roads --fix",
    ),
    "import": Verb(
        data.bring,
        "segtune import SOURCE output=DIR [format=auto] [order=…] [polygons=…] [unlabelled=…] [dataset.KEY=VALUE …]",
        "brings any annotation format into images, index masks, classes and splits",
        "segtune import labels/coco output=roads",
    ),
    "train": Verb(
        _train,
        "segtune train [key=value …]",
        "fine-tunes one segmenter, or a labeler of its regions (kind=labeler)",
        "segtune train dataset=street template=swift hp.num_epochs=10",
    ),
    "sweep": Verb(
        _sweep,
        "segtune sweep NAME [sweep.key=value …] [key=value …]",
        "starts, joins or resumes sweeps/NAME.yaml",
        "segtune sweep quickstart sweep.n_trials=12",
    ),
    "status": Verb(
        _status, "segtune status SWEEP", "how far a sweep is, wherever it runs", "segtune status quickstart"
    ),
    "stop": Verb(
        _stop, "segtune stop SWEEP", "has a sweep's workers give their trials back and end", "segtune stop quickstart"
    ),
    "retry": Verb(_retry, "segtune retry SWEEP", "tries a sweep's failed trials again", "segtune retry quickstart"),
    "worker": Verb(
        _worker,
        "segtune worker SWEEP [sweep.storage=URL]",
        "one more worker for a sweep that runs",
        "segtune worker camvid_templates",
    ),
    "compare": Verb(
        _compare,
        "segtune compare SWEEP | RUN | URI … [--baseline NAME] [split=val] [output=DIR]",
        "writes the comparison report",
        "segtune compare quickstart",
    ),
    "promote": Verb(
        _promote,
        "segtune promote SWEEP | RUN | workflow=NAME model=NAME [gate=NAME] [gate.KEY=VALUE …]",
        "registers a segmenter, and makes it champion if the gate lets it",
        "segtune promote quickstart model=street",
    ),
    "rollback": Verb(
        _rollback,
        "segtune rollback model=NAME",
        "goes back to the champion before the present one",
        "segtune rollback model=street",
    ),
    "confirm": Verb(
        _confirm,
        "segtune confirm SWEEP [top=3] [seeds=3]",
        "trains a sweep's best again on fresh seeds, and states its optimism",
        "segtune confirm quickstart top=2 seeds=3",
    ),
    "evaluate": Verb(
        _evaluate,
        "segtune evaluate SWEEP | RUN | URI dataset=NAME [split=val] [purpose=WHY]",
        "scores a segmenter on a split, and keeps the evidence",
        "segtune evaluate models:/street@champion dataset=street split=test",
    ),
    "export": Verb(
        data.export,
        "segtune export model=URI [format=onnx|openvino|int8] [dataset=NAME] [output=DIR] [images=50] "
        "[min_agreement=0.999]",
        "writes a graph for other runtimes, after it was compared with the segmenter on real images",
        "segtune export model=models:/street@champion format=onnx dataset=street",
    ),
    "predict": Verb(
        _predict,
        "segtune predict model=URI | workflow=NAME source=PATH|- [output=DIR] [workflow.KEY=VALUE …] "
        "[regions=concept|components] [min_area=16] [formats=masks,overlays,coco,geojson,yolo,clarifai] [tile=512] "
        "[overlap=0.25] [tta=none|flip|scales] [sample_ms=MS] [smooth=none|exponential|flow] [max_pixels=N] "
        "[runtime=auto|eager|bf16|onnx|openvino] "
        "[overwrite=true]",
        "turns images and videos into regions, masks and overlays",
        "segtune predict model=models:/street@champion source=photos/ output=out",
    ),
}
