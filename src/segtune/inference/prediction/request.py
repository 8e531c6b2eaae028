"""The input and the result of a prediction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segtune.inference.options import Options


@dataclass(frozen=True)
class PredictionRequest:
    """What to predict, and where to write it.

    Attributes:
        sources: paths, folders, globs, or `-` for standard input.
        model: the URI that regions.json names.
        overwrite: replace the results of an earlier call. All files that it wrote are removed
            first, and no others.
    """

    sources: Sequence[str]
    output: Path
    model: str = ""
    options: Options = field(default_factory=Options)
    overwrite: bool = False


@dataclass
class Prediction:
    """What `predict` wrote.

    Attributes:
        images: number of images, with those of an earlier call that was interrupted.
        frames: number of frames of all videos.
        failed: file -> the reason why it was left out.
        partial: video -> what is missing of it.
    """

    output: Path
    images: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, for scripts."""
        return asdict(self) | {
            "output": str(self.output),
            "regions": str(self.output / "regions.json"),
        }
