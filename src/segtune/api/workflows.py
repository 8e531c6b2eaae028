"""Workflows by name: assembled from `conf/workflow/` and the registry, registered as one model."""

import json
from collections.abc import Sequence
from typing import TypeVar

from segtune import __version__
from segtune.config.conf_files import load_member
from segtune.config.keys import parse_settings
from segtune.errors import ConfigError, DataError
from segtune.inference.labeler import RegionLabeler
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow, WorkflowConfig
from segtune.models.folder import MANIFEST, file_hash
from segtune.runtime.temporary import temporary_folder
from segtune.tracking.promotion import Promotion, promote_unjudged
from segtune.tracking.registry import locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run, search_runs
from segtune.tracking.store import Store
from segtune.tracking.versions import MANIFEST_HASH


def read_workflow(name: str, overrides: Sequence[str]) -> WorkflowConfig:
    """Read `conf/workflow/NAME.yaml` and apply `workflow.KEY=VALUE` overrides.

    Raises:
        ConfigError: an unknown name or key, or a wrong value.
    """
    data = load_member("workflow", name, overrides, WorkflowConfig)
    return parse_settings(WorkflowConfig, data, f"workflow {name}")


def assemble(name: str, config: WorkflowConfig, store: Store) -> Workflow:
    """Open the parts of a workflow, and pin them to their present versions.

    Raises:
        ConfigError: a part is missing, or does not fit the others.
        DataError: files of a part were changed.
    """
    segmenter, pinned = _open_part(name, config.segmenter, Segmenter, store)
    parts = [pinned]
    labelers: list[RegionLabeler] = []
    for uri in config.labelers:
        labeler, pinned = _open_part(name, uri, RegionLabeler, store)
        labelers.append(labeler)
        parts.append(pinned)
    return Workflow(name, config, segmenter, labelers, parts)


Part = TypeVar("Part", Segmenter, RegionLabeler)


def _open_part(
    workflow: str, uri: str, kind: type[Part], store: Store
) -> tuple[Part, dict[str, str]]:
    """Return a part, and its pinned URI with the hash of its manifest."""
    try:
        located = locate(uri, store)
    except ConfigError as error:
        raise ConfigError(f"workflow {workflow}: {error}") from None
    model = open_model(located.folder, manifest_hash=located.manifest_hash)
    if not isinstance(model, kind):
        expected = "segmenter" if issubclass(kind, Segmenter) else "labeler"
        raise ConfigError(f"workflow {workflow}: {uri} is no {expected}; give one in its place.")
    manifest_hash = file_hash(located.folder / MANIFEST)
    return model, {"uri": located.pinned, "manifest_sha256": manifest_hash}


def register_workflow(workflow: Workflow, model: str, store: Store) -> Promotion:
    """Register a workflow with the files of all its parts, and make that version champion.

    A workflow with the same parts and config is registered once.

    Raises:
        ConfigError: a name that MLflow refuses.
        DataError: a part has no description.
    """
    if not all(m.info for m in workflow.models):
        raise DataError(f"workflow {workflow.name}: a part has no description and cannot be saved.")
    with temporary_folder() as temporary:
        folder = temporary / "segmenter"
        digest = workflow.save(folder)
        earlier = search_runs(store, {MANIFEST_HASH: digest, "segtune.kind": "workflow"})
        if earlier:
            return promote_unjudged(store, earlier[0], model)
        tags = {"segtune.kind": "workflow", "segtune.version": __version__, MANIFEST_HASH: digest}
        params = {"workflow": workflow.name}
        run = RunWriter.create(store, f"workflow-{workflow.name}", params, tags, None)
        run.text("workflow.json", json.dumps(workflow.pinned(), indent=1, ensure_ascii=False))
        run.folder_artifact(folder, "segmenter")
        run.finish("finished")
    return promote_unjudged(store, get_run(store, run.run_id), model)
