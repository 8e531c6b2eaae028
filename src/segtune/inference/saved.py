"""Segmenters, labelers and workflows on disk: one way to save them and one way to load them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from segtune.errors import DataError, SegtuneError
from segtune.inference.description import check_description
from segtune.models.folder import read_folder, write_folder
from segtune.models.preprocessing import Preprocessing
from segtune.plugins.recorded import require_plugins

Device = str | torch.device | None
Model = TypeVar("Model", bound="FolderModel")

_REASON_LENGTH = 500  # characters; torch names every tensor that is missing
_LIBRARIES = ("segtune", "torch", "timm", "segmentation-models-pytorch")


@dataclass(frozen=True)
class SavedModel:
    """The content of a model folder.

    Attributes:
        info: the description in `segmenter.json`.
        tensors: the weights by name.
        name: names the model in messages.
    """

    info: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    name: str

    @property
    def kind(self) -> str:
        """`segmenter`, `labeler` or `workflow`."""
        return str(self.info.get("kind", "segmenter"))

    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the description names."""
        values = self.info["preprocessing"]
        return Preprocessing(tuple(values["mean"]), tuple(values["std"]), int(values["multiple"]))


class FolderModel(ABC):
    """A model that is saved as a folder: weights, a description, and a manifest with hashes."""

    KIND: ClassVar[str]

    @classmethod
    @abstractmethod
    def _build(cls: type[Model], saved: SavedModel, device: Device) -> Model:
        """Build the model; every error in the description or the weights may pass through."""

    @abstractmethod
    def _saved(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """Return the weights and the description to save."""

    @classmethod
    def load(
        cls: type[Model],
        folder: str | Path,
        device: Device = None,
        manifest_hash: str | None = None,
    ) -> Model:
        """Open a model folder after checking every byte of it.

        Raises:
            DataError: another kind of model, changed files, or weights that do not fit the
                described model.
        """
        info, tensors = read_folder(Path(folder), manifest_hash)
        return cls.from_saved(SavedModel(info, tensors, str(folder)), device)

    @classmethod
    def from_saved(cls: type[Model], saved: SavedModel, device: Device) -> Model:
        """Build the model from a description and weights.

        Raises:
            DataError: another kind of model, or weights that do not fit the description.
            ConfigError: the model needs a plugin that is not loaded.
        """
        if saved.kind != cls.KIND:
            hint = ""
            if saved.kind == "labeler" and cls.KIND == "segmenter":
                hint = " Use it in a workflow (conf/workflow/)."
            raise DataError(f"'{saved.name}' is a {saved.kind}, not a {cls.KIND}.{hint}")
        check_description(cls.KIND, saved.info, saved.tensors, saved.name)
        require_plugins(
            saved.info.get("plugins", {}), f"{cls.KIND} '{saved.name}'", groups=("architecture",)
        )
        torch.empty(0, device=default_device(device))  # a missing GPU is no fault of the folder
        try:
            return cls._build(saved, device)
        except (SegtuneError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a wrong description raises errors of any type
            reason = " ".join(str(error).split())[:_REASON_LENGTH]
            raise DataError(
                f"{cls.KIND} '{saved.name}': the description does not fit the weights "
                f"({type(error).__name__}: {reason})."
            ) from None

    def save(self, folder: Path) -> str:
        """Write the folder that `open_model` opens; return the sha256 of its manifest."""
        return write_folder(folder, *self._saved())


def default_device(device: Device) -> torch.device:
    """Return the device, or by default the GPU if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def training_info(
    template: Mapping[str, Any],
    preprocessing: Preprocessing,
    dataset: Mapping[str, Any],
    metrics: Mapping[str, float],
    plugins: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe how to build a trained model and where it comes from.

    Args:
        plugins: part -> the plugin that gave it, as a run records them.
    """
    recorded = {"plugins": dict(plugins)} if plugins else {}
    return {
        "template": template["name"],
        "model": dict(template["model"]),
        "preprocessing": asdict(preprocessing),
        "dataset": dict(dataset),
        "metrics": dict(metrics),
        "versions": versions(),
        **recorded,
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a model's weights depend on."""
    return {name: metadata.version(name) for name in _LIBRARIES}
