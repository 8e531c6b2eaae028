"""The table of candidates: its columns, the cells of each row, and the runs that groups average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segtune.report.phrasing import points, short

Row = Mapping[str, Any]
"""A candidate of the facts, or a trial that is not compared."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: with the unit, if there is one.
        shown: whether the table begins with it; a reader can choose every column.
    """

    title: str
    shown: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell; `value` sorts it where the text does not."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class CandidateTable:
    """The table of candidates.

    Attributes:
        searched: the parameters that come first.
        others: varied parameters that were not searched; they are hidden at first.
        rows: cells of each candidate and, after them, of each trial that is not compared.
    """

    columns: Sequence[Column]
    searched: Sequence[str]
    others: Sequence[str]
    rows: Sequence[tuple[Row, Sequence[Cell]]]


def candidate_table(facts: Mapping[str, Any], searched: Sequence[str]) -> CandidateTable:
    """Return the table.

    Args:
        searched: parameters of the sweep's search space; without one, the hyperparameters that
            vary.
    """
    rows = [*facts["candidates"], *facts["others"]]
    varied = varied_params([row["params"] for row in rows])
    first = [key for key in varied if key in searched] or [
        key for key in varied if key == "template" or key.startswith("hp.")
    ]
    others = [key for key in varied if key not in first]
    classes = [c["name"] for c in facts["split"]["classes"]] if facts["candidates"] else []
    metrics: list[str] = sorted(set().union(*(c["more_metrics"] for c in facts["candidates"])))
    columns = [Column("mIoU"), Column("95 % interval"), Column(_difference_title(facts))]
    columns += [Column("p (Holm)"), Column("P(better)", shown=False)]
    columns += [Column(key) for key in first]
    has_seeds = any(len(row["runs"]) > 1 for row in facts["candidates"])
    columns += [Column("seeds", has_seeds), Column("SD between seeds", has_seeds)]
    columns.append(Column("boundary IoU"))
    columns += [Column("calibration error"), *map(Column, metrics)]
    columns += [Column("latency (ms)"), Column("parameters (M)"), Column("GFLOPs", shown=False)]
    columns += [Column("training (s)"), Column("trials", shown=False)]
    columns += [Column(key, shown=False) for key in others]
    columns += [Column(f"IoU of {name}", shown=False) for name in classes]
    keys = (first, others, classes, metrics)
    cells = [(row, _candidate_cells(row, *keys)) for row in facts["candidates"]]
    cells += [(row, _other_cells(row, *keys)) for row in facts["others"]]
    return CandidateTable(columns, first, others, cells)


def run_values(facts: Mapping[str, Any], varied: Sequence[str]) -> list[dict[str, Any]]:
    """Return each measured run with the figures that groups average, in the table's units.

    Args:
        varied: the parameters that groups may be formed by.
    """
    runs = []
    for row in facts["candidates"]:
        for run in row["runs"]:
            figures = {
                "mIoU": _points(run["miou"]),
                "boundary IoU": _points(run["boundary_iou"]),
                "calibration error": _points(run["ece"]),
                "training (s)": run["seconds"],
            }
            # a seed is no parameter of a candidate, but of its runs
            params = {key: row["params"].get(key) for key in varied} | {"seed": run["seed"]}
            runs.append({"run": run["run"], "figures": figures, "params": params})
    return runs


def varied_params(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the parameters that differ between runs, template and hyperparameters first."""
    sections = {"template": 0, "hp": 1}
    keys: set[str] = set().union(*params) - {"seed"}
    ordered = sorted(keys, key=lambda key: (sections.get(key.split(".")[0], 2), key))
    return [key for key in ordered if len({row.get(key) for row in params}) > 1]


def _difference_title(facts: Mapping[str, Any]) -> str:
    return f"difference to {facts['baseline']}" if facts["candidates"] else "difference"


def _candidate_cells(
    row: Row,
    first: Sequence[str],
    others: Sequence[str],
    classes: Sequence[str],
    metrics: Sequence[str],
) -> list[Cell]:
    cost, latency = row["cost"], row["latency"]
    difference = row["difference"] or {}
    cells = [_in_points(row["miou"]), _interval(row["interval"]), _difference(row["difference"])]
    cells.append(_number(difference.get("p_corrected"), "%.2g"))
    cells.append(_number(difference.get("probability"), "%.2f"))
    cells += [_param(row, key) for key in first]
    cells += [Cell(str(len(row["runs"]))), _in_points(row["seed_deviation"])]
    cells += [_in_points(row["boundary_iou"]), _in_points(row["ece"])]
    cells += [_number(row["more_metrics"].get(name), "%.4g") for name in metrics]
    cells += [_latency(latency), _number(cost.get("params_m"), "%.2f")]
    cells += [_number(cost.get("gflops"), "%.2f"), _number(row["seconds"], "%.0f")]
    cells.append(Cell(str(row["trials"])))
    cells += [_param(row, key) for key in others]
    cells += [_in_points(row["iou"][name]) for name in classes]
    return cells


def _other_cells(
    row: Row,
    first: Sequence[str],
    others: Sequence[str],
    classes: Sequence[str],
    metrics: Sequence[str],
) -> list[Cell]:
    """Return the cells of a trial that is not compared; its last val mIoU stands in brackets."""
    last, empty = row["last_val_miou"], Cell("")
    cells = [empty if last is None else Cell(f"({points(last)})", 100 * last), Cell(row["state"])]
    cells += [empty] * 3 + [_param(row, key) for key in first]
    cells += [empty] * (7 + len(metrics))
    cells += [_number(row["seconds"], "%.0f"), empty]
    cells += [_param(row, key) for key in others]
    return cells + [empty] * len(classes)


def _in_points(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(points(value), 100 * value)


def _number(value: float | None, form: str) -> Cell:
    return Cell("–") if value is None else Cell(form % value, value)


def _interval(interval: Mapping[str, float] | None) -> Cell:
    if interval is None:
        return Cell("n/a")
    return Cell(f"{points(interval['low'])} – {points(interval['high'])}", 100 * interval["low"])


def _difference(difference: Mapping[str, Any] | None) -> Cell:
    if difference is None:
        return Cell("–")
    ends = f"[{points(difference['low'])}, {points(difference['high'])}]"
    mark = "" if difference["distinguishable"] else " ~"
    value = points(difference["value"], signed=True)
    return Cell(f"{value} {ends}{mark}", 100 * difference["value"])


def _latency(latency: Mapping[str, float] | None) -> Cell:
    if latency is None:
        return Cell("–")
    text = f"{latency['median']:.1f}"
    if latency["runs"] > 1:
        text += f" ({latency['low']:.1f} – {latency['high']:.1f})"
    return Cell(text, latency["median"])


def _param(row: Row, key: str) -> Cell:
    value = row["params"].get(key)
    try:
        return Cell(short(value), float(value))
    except (TypeError, ValueError):
        return Cell(short(value))


def _points(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)
