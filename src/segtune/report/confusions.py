"""The images behind each cell of a confusion matrix."""

from typing import Any

import numpy as np

from segtune.measure.evidence import Evidence

_MOST_CELLS, _MOST_IMAGES = 400, 20  # cells with the most pixels; images of one cell


def confusions(evidence: Evidence) -> dict[str, Any]:
    """Return the images that a confusion comes from, those with the most pixels first.

    Returns:
        `classes`, their names; `images`, names; and `cells`, the rows (number of the image,
        confused pixels) by "TRUE,PREDICTED", ids of classes.
    """
    matrix = evidence.matrix.copy()
    np.fill_diagonal(matrix, 0)
    cells = {}
    largest = np.argsort(-matrix, axis=None, kind="stable")[:_MOST_CELLS]
    for true, predicted in zip(*np.unravel_index(largest, matrix.shape), strict=True):
        if not matrix[true, predicted]:
            break
        pixels = evidence.matrices[:, true, predicted]
        images = np.argsort(-pixels, kind="stable")[:_MOST_IMAGES]
        cells[f"{true},{predicted}"] = [[int(n), int(pixels[n])] for n in images if pixels[n]]
    used = sorted({number for rows in cells.values() for number, _ in rows})
    place = {number: index for index, number in enumerate(used)}
    return {
        "classes": list(evidence.classes),
        "unit": evidence.unit,
        "images": [evidence.names[number] for number in used],
        "cells": {key: [[place[n], count] for n, count in rows] for key, rows in cells.items()},
    }
