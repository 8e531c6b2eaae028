"""The table of recorded learning curves: a file per dataset, a row per configuration and seed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.runtime.atomic import atomic_file

EPOCHS = 27
MATRIX_EPOCHS = (3, 9, 27)
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Curve:
    """The record of one training.

    Attributes:
        miou: (27,) val mIoU after each epoch, in [0, 1]; nan from the epoch that diverged.
        loss: (27,) mean cross-entropy of the val pixels, whichever loss was trained.
        seconds: (27,) of the processor for each epoch with its validation.
        matrices: (3, N, C, C) confusion matrices of the N val images at epochs 3, 9 and 27.
    """

    miou: NDArray[np.float32]
    loss: NDArray[np.float32]
    seconds: NDArray[np.float32]
    matrices: NDArray[np.uint16]


@dataclass
class CurveTable:
    """The curves of one dataset.

    Attributes:
        name: of the dataset, and of its sweep file.
        configurations: parameter -> value, by the configuration's number; 0 is the default.
        curves: (configuration, seed) -> curve.
    """

    name: str
    configurations: tuple[Mapping[str, Any], ...]
    curves: dict[tuple[int, int], Curve] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of the table."""
        return FOLDER / f"{self.name}.npz"

    def save(self) -> None:
        """Write all curves; a kill leaves the file before."""
        rows = sorted(self.curves)
        columns = {name: [vars(self.curves[row])[name] for row in rows] for name in _COLUMNS}
        arrays = {name: np.stack(values) for name, values in columns.items()}
        with atomic_file(self.path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(
                file,
                rows=np.array(rows, np.int16),
                configurations=np.array(json.dumps(self.configurations)),
                **arrays,
            )

    @classmethod
    def load(cls, name: str) -> "CurveTable":
        """Read a table.

        Raises:
            FileNotFoundError: nothing is recorded yet.
        """
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as data:
            columns = {column: data[column] for column in _COLUMNS}
            table = cls(name, tuple(json.loads(str(data["configurations"]))))
            for position, (configuration, seed) in enumerate(data["rows"].tolist()):
                values = {column: columns[column][position] for column in _COLUMNS}
                table.curves[configuration, seed] = Curve(**values)
        return table


_COLUMNS = ("miou", "loss", "seconds", "matrices")
