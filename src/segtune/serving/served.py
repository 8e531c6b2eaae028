"""The served model, and its replacement by a new champion without losing a request."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segtune.inference.regions.regions import SCHEMA_VERSION
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.runtime.log import Log
from segtune.serving.threads import in_own_thread


@dataclass(frozen=True)
class ServedModel:
    """One version of a model, ready to compute.

    Attributes:
        uri: the name that the server was given, as `models:/street@champion`.
        version: where the name leads now, as `models:/street/3`; a folder's own path.
        segmenter: with the engine that computes here.
        workflow: None for a bare segmenter.
        manifest: sha256 of the model folder's manifest, if it is known.
        quality: split, mIoU, and the ends of its 95 % interval; empty if no run has them.
        runtime: the engine that the server was asked for; jobs use it, too.
        runtime_options: of that engine.
    """

    uri: str
    version: str
    segmenter: Segmenter
    workflow: Workflow | None = None
    manifest: str | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = "auto"
    runtime_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Segmenter | Workflow:
        """The workflow, or the segmenter where there is none."""
        return self.workflow or self.segmenter

    def head(self) -> dict[str, Any]:
        """The members of an answer that are the same for every image; as in `regions.json`."""
        classes = self.model.classes.to_json()
        return {"schema_version": SCHEMA_VERSION, "model": self.version, "classes": classes}

    def describe(self) -> dict[str, Any]:
        """What is served, for clients and pages."""
        info: Mapping[str, Any] = self.segmenter.info
        return {
            "uri": self.uri,
            "version": self.version,
            "workflow": self.workflow.name if self.workflow else None,
            "template": info.get("template"),
            "image_size": list(self.segmenter.image_size),
            "classes": self.model.classes.to_json(),
            "metrics": dict(info.get("metrics", {})),
            "quality": dict(self.quality),
            "dataset": dict(info.get("dataset", {})).get("name"),
            "device": str(self.segmenter.device),
            "engine": self.segmenter.engine.name,
        }


Locate = Callable[[], tuple[str, str | None]]
"""Returns the version and the manifest's hash to which the served name leads now."""

Open = Callable[[], ServedModel]
"""Opens the model to which the served name leads now, and warms it up."""


class ModelSlot:
    """The served model. A new version is opened beside the old one and then takes its place.

    Requests keep the version that they began with.
    """

    def __init__(self, open_model: Open, locate: Locate, say: Log) -> None:
        self._open, self._locate, self._say = open_model, locate, say
        self._lock = threading.Lock()
        self.current = in_own_thread(open_model)
        self.fault: str | None = None

    def refresh(self) -> bool:
        """Take the version to which the name leads now; return whether it is another one.

        The server reports a version that cannot be opened once, and keeps the old one.
        """
        with self._lock:
            try:
                version, manifest = self._locate()
                if (version, manifest) == (self.current.version, self.current.manifest):
                    self.fault = None
                    return False
                served = in_own_thread(self._open)
            except Exception as error:  # one failed look never ends the looking
                if str(error) != self.fault:
                    self.fault = str(error)
                    self._say(f"{self.current.version} is still served: {error}")
                return False
            self._say(f"{served.version} replaces {self.current.version}")
            self.current, self.fault = served, None
            return True
