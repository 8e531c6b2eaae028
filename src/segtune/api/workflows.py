"""Workflows by name: put together out of `conf/workflow/` and the registry, and registered as one model."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from segtune import __version__
from segtune.config.conf_files import load_member
from segtune.config.keys import parse_settings
from segtune.errors import ConfigError, DataError
from segtune.inference.labeler import RegionLabeler
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow, WorkflowConfig
from segtune.models.folder import MANIFEST, file_hash
from segtune.tracking.promotion import Promotion, promote_unjudged
from segtune.tracking.registry import locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run, search_runs
from segtune.tracking.store import Store
from segtune.tracking.versions import MANIFEST_HASH


def read_workflow(name: str, overrides: Sequence[str]) -> WorkflowConfig:
    """The contents of `conf/workflow/NAME.yaml`, with `workflow.KEY=VALUE` overrides applied.

    Raises:
        ConfigError: an unknown name or key, or a wrong value.
    """
    data = load_member("workflow", name, overrides, WorkflowConfig)
    return parse_settings(WorkflowConfig, data, f"workflow {name}")


def assemble(name: str, config: WorkflowConfig, store: Store) -> Workflow:
    """A workflow, its parts pinned to the versions that they are now.

    Raises:
        ConfigError: a part that is not there, or parts that do not fit.
        DataError: files of a part that were changed.
    """
    models: list[Segmenter | RegionLabeler] = []
    parts = []
    for uri, kind in [
        (config.segmenter, Segmenter),
        *((u, RegionLabeler) for u in config.labelers),
    ]:
        try:
            found = locate(uri, store)
        except ConfigError as error:
            raise ConfigError(f"workflow {name}: {error}") from None
        model = open_model(found.folder, manifest_hash=found.manifest_hash)
        if not isinstance(model, Segmenter | RegionLabeler) or not isinstance(model, kind):
            wanted = "segmenter" if kind is Segmenter else "labeler"
            raise ConfigError(f"workflow {name}: {uri} is no {wanted}; give one in its place.")
        models.append(model)
        parts.append({"uri": found.pinned, "manifest_sha256": file_hash(found.folder / MANIFEST)})
    segmenter, *labelers = models
    assert isinstance(segmenter, Segmenter)
    return Workflow(
        name, config, segmenter, [one for one in labelers if isinstance(one, RegionLabeler)], parts
    )


def register_workflow(workflow: Workflow, model: str, store: Store) -> Promotion:
    """Registers a workflow with the bytes of all its parts, and makes that version champion.

    The same parts and config under the same name are not registered twice.

    Raises:
        ConfigError: a name that MLflow does not take.
        DataError: a part without a description.
    """
    if not all(m.info for m in workflow.models):
        raise DataError(f"workflow {workflow.name}: a part has no description and cannot be saved.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "segmenter"
        digest = workflow.save(folder)
        known = search_runs(store, {MANIFEST_HASH: digest, "segtune.kind": "workflow"})
        if known:
            return promote_unjudged(store, known[0], model)
        tags = {"segtune.kind": "workflow", "segtune.version": __version__, MANIFEST_HASH: digest}
        run = RunWriter.create(
            store, f"workflow-{workflow.name}", {"workflow": workflow.name}, tags, None
        )
        run.text("workflow.json", json.dumps(workflow.pinned(), indent=1, ensure_ascii=False))
        run.folder_artifact(folder, "segmenter")
        run.finish("finished")
    return promote_unjudged(store, get_run(store, run.run_id), model)
