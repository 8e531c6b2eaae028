"""The figures of a comparison, which plotly draws in the page, with titles, units and captions."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from segtune.pages.colors import SERIES
from segtune.report.phrasing import points

GREY = "#8593a5"
_MOST_ROWS = 24
_MOST_SINGLE_TICKS = 15
_MOST_NAMES = 8  # names in a caption
_MOST_CELL_TEXTS = 25  # classes; the text in narrower cells cannot be read
Facts = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
"""Candidates of the facts."""


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        alternative: the caption, which says in words what the figure shows.
        data: plotly's JSON, safe inside a script element.
    """

    id: str
    title: str
    alternative: str
    data: str


def plotly_script() -> str:
    """Return plotly's source: the page holds it, so that it opens from disk without a network."""
    return str(get_plotlyjs())


def comparison_figures(facts: Facts, best: Mapping[str, Any]) -> list[Figure]:
    """Return all figures that are drawn from evidence.

    Args:
        best: `matrix`, the confusion matrix (C, C) of the best candidate, and `reliability`, the
            calibration points of some candidates by name.
    """
    figures = [miou_dots(facts), class_heatmap(facts)]
    if facts["method"] is not None and len(facts["candidates"]) > 1:
        figures.append(class_differences(facts))
    figures += [confusion(facts, best["matrix"]), reliability(best["reliability"])]
    return [*figures, pareto(facts)]


def miou_dots(facts: Facts) -> Figure:
    """Draw the mIoU of each candidate: its interval as a line, each seed as a dot."""
    candidates = facts["candidates"]
    rows = candidates[:_MOST_ROWS]
    figure = go.Figure()
    for row in reversed(rows):
        name = html.escape(row["name"])
        if row["interval"]:
            ends = [100 * row["interval"]["low"], 100 * row["interval"]["high"]]
            line = {"color": GREY, "width": 7}
            figure.add_scatter(x=ends, y=[name] * 2, mode="lines", line=line)
        mious = [100 * r["miou"] for r in row["runs"]]
        marker = {"size": 9, "color": SERIES[0]}
        figure.add_scatter(x=mious, y=[name] * len(mious), mode="markers", marker=marker)
    figure.update_layout(height=130 + 26 * len(rows), showlegend=False)
    figure.update_xaxes(range=padded(_ends(rows)))
    figure.update_yaxes(range=[-0.7, len(rows) - 0.3])
    mious_by_name = [f"{r['name']} {points(r['miou'])}" for r in rows]
    caption = (
        f"{_listed(mious_by_name)}. Each dot is a seed; each line is a 95 % interval."
        f"{_omitted(candidates)}"
    )
    title = f"mIoU on {facts['split']['name']} (points)"
    return finished("miou", title, caption, figure, x="mIoU (points)")


def class_heatmap(facts: Facts) -> Figure:
    """Draw the IoU of each class (columns) and candidate (rows); an absent class is left empty."""
    candidates, classes = facts["candidates"], facts["split"]["classes"]
    rows = candidates[:_MOST_ROWS]
    values = [_class_ious(row) for row in rows]
    caption = (
        "IoU of each class and candidate, in points. The label of a class states its share of the "
        "pixels and its number of images."
    )
    names = [c["name"] for c in classes]
    measured = [(v, name) for name, v in zip(names, values[0], strict=True) if v is not None]
    if measured:
        low, high = min(measured), max(measured)
        caption += (
            f" {rows[0]['name']} is weakest on {low[1]} ({low[0]:.1f}) and strongest on "
            f"{high[1]} ({high[0]:.1f})."
        )
    caption += _omitted(candidates)
    total = sum(c["pixels"] for c in classes) or 1
    labels = [
        f"{html.escape(c['name'])} ({100 * c['pixels'] / total:.1f} %, {c['images']} img)"
        for c in classes
    ]
    scale = {"zmin": 0, "zmax": 100, "colorscale": "Viridis", "colorbar": {"title": "IoU"}}
    figure = _heatmap(values, labels, [r["name"] for r in rows], scale)
    return finished("classes", "IoU per class (points)", caption, figure)


def class_differences(facts: Facts) -> Figure:
    """Draw the IoU of each class minus the baseline's IoU."""
    baseline = facts["baseline"]
    base = next(r for r in facts["candidates"] if r["name"] == baseline)
    others = [r for r in facts["candidates"] if r is not base]
    rows = others[:_MOST_ROWS]
    values = [_class_gains(row, base) for row in rows]
    sizes = [abs(v) for v in chain.from_iterable(values) if v is not None]
    largest = max(sizes, default=1.0) or 1.0
    labels = [html.escape(c["name"]) for c in facts["split"]["classes"]]
    scale = {
        "zmin": -largest,
        "zmax": largest,
        "colorscale": "RdBu",
        "colorbar": {"title": "difference"},
    }
    figure = _heatmap(values, labels, [r["name"] for r in rows], scale, sign="+")
    caption = (
        f"IoU per class minus the IoU of {baseline}, in points: blue is better, red is worse."
        f"{_omitted(others)}"
    )
    title = f"Difference to {baseline} per class (points)"
    return finished("differences", title, caption, figure)


def confusion(facts: Facts, matrix: Sequence[Sequence[int]]) -> Figure:
    """Draw the best candidate's confusion matrix: true classes (rows), predicted (columns)."""
    names = [c["name"] for c in facts["split"]["classes"]]
    shares = [_row_shares(row) for row in matrix]
    labels = [html.escape(n) for n in names]
    scale = {"zmin": 0, "zmax": 100, "colorscale": "Blues", "colorbar": {"title": "% of row"}}
    figure = _heatmap(shares, labels, names, scale)
    figure.update_xaxes(title="predicted")
    figure.update_yaxes(title="true")
    caption = (
        f"{facts['candidates'][0]['name']}: rows are true classes, columns are predicted classes, "
        "in % of the row."
    )
    worst = _largest_confusion(names, shares)
    if worst:
        share, true, predicted = worst
        caption += f" The largest confusion is {true} predicted as {predicted} ({share:.1f} %)."
    title = "Confusion matrix of the best (% of the true class)"
    return finished("confusion", title, caption, figure)


def reliability(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Draw the share of correct pixels by confidence, with the diagonal of perfect calibration.

    Args:
        curves: (confidence, share correct, pixels) of each bin, by candidate.
    """
    figure = go.Figure()
    line = {"color": GREY, "dash": "dot"}
    figure.add_scatter(x=[0, 100], y=[0, 100], mode="lines", name="perfect", line=line)
    for number, (name, bins) in enumerate(curves.items()):
        figure.add_scatter(
            x=[100 * confidence for confidence, _, _ in bins],
            y=[100 * correct for _, correct, _ in bins],
            name=html.escape(name),
            mode="lines+markers",
            line={"color": SERIES[number % len(SERIES)]},
        )
    figure.update_layout(height=420)
    caption = "Below the diagonal, a segmenter is overconfident; above it, underconfident."
    title = "Reliability (% correct by confidence)"
    return finished("reliability", title, caption, figure, x="confidence (%)", y="correct (%)")


def pareto(facts: Facts) -> Figure:
    """Draw mIoU against latency and against parameters, each with its Pareto front."""
    panels = {
        "Latency": ("latency (ms)", [r["latency"] for r in facts["candidates"]]),
        "Parameters": ("parameters (M)", [_parameters(r) for r in facts["candidates"]]),
    }
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    fronts = []
    for column, (cost_name, (label, costs)) in enumerate(panels.items(), start=1):
        pairs = zip(facts["candidates"], costs, strict=True)
        rows = [(cost, row) for row, cost in pairs if cost is not None]
        front = _pareto_front([(c["median"], 100 * r["miou"], r["name"]) for c, r in rows])
        figure.add_scatter(
            x=[cost["median"] for cost, _ in rows],
            y=[100 * row["miou"] for _, row in rows],
            error_x={
                "array": [cost["high"] - cost["median"] for cost, _ in rows],
                "arrayminus": [cost["median"] - cost["low"] for cost, _ in rows],
                "color": GREY,
                "thickness": 1,
                "width": 0,
            },
            text=[html.escape(row["name"]) for _, row in rows],
            mode="markers",
            marker={"color": SERIES[0], "size": 8},
            hovertemplate="%{text}: %{y:.1f} at %{x:.3g}<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=[cost for cost, _, _ in front],
            y=[miou for _, miou, _ in front],
            mode="lines",
            line={"color": SERIES[1], "shape": "hv"},
            hoverinfo="skip",
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text=label, row=1, col=column)
        fronts.append(f"{cost_name}: {_listed([name for _, _, name in front])}.")
    figure.update_yaxes(title_text="mIoU (points)", row=1, col=1)
    figure.update_layout(showlegend=False, height=380)
    caption = (
        f"The line is the Pareto front. {' '.join(fronts)} Candidates of one architecture and size "
        "share the median of their latencies; a grey line shows the range."
    )
    return finished("pareto", "mIoU against latency and size", caption, figure)


def whole_numbers(values: Sequence[int]) -> dict[str, Any]:
    """Return the ticks of an axis of counts: trials and epochs have no halves."""
    is_short = not values or max(values) - min(values) <= _MOST_SINGLE_TICKS
    return {"dtick": 1} if is_short else {"tickformat": "d"}


def padded(values: Sequence[float], share: float = 0.06) -> list[float]:
    """Return the range of an axis on which no value touches the border."""
    low, high = min(values), max(values)
    space = share * (high - low or 1.0)
    return [low - space, high + space]


def finished(
    key: str, title: str, caption: str, figure: go.Figure, x: str = "", y: str = ""
) -> Figure:
    """Return a plotly figure as a figure of the page, in the report's style.

    Args:
        x: title of the x axis.
        y: title of the y axis.
    """
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 34, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": -0.2},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": SERIES[0]},
    )
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    figure.update_yaxes(automargin=True, title_standoff=12)
    figure.update_xaxes(automargin=True, title_standoff=12)
    plain: Any = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    # "<" could end the script element that carries the data
    return Figure(key, title, caption, json.dumps(plain).replace("<", "\\u003c"))


def _ends(rows: Rows) -> list[float]:
    """Return all values that a row of the mIoU figure spans, in points."""
    values = []
    for row in rows:
        values += [100 * run["miou"] for run in row["runs"]]
        if row["interval"]:
            values += [100 * row["interval"]["low"], 100 * row["interval"]["high"]]
    return values


def _parameters(row: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the millions of parameters in the form of a latency: a count has no spread."""
    count = row["cost"].get("params_m")
    return None if count is None else {"median": count, "low": count, "high": count}


def _heatmap(
    values: Sequence[Sequence[float | None]],
    columns: Sequence[str],
    rows: Sequence[str],
    scale: Mapping[str, Any],
    sign: str = "",
) -> go.Figure:
    """Draw a heatmap with its values as text, if there is space for text.

    Args:
        scale: plotly's arguments for the colours.
        sign: "+" shows the sign of positive values too.
    """
    arguments = dict(scale)
    if len(columns) <= _MOST_CELL_TEXTS:
        arguments["text"] = [_cell_texts(row, sign) for row in values]
        arguments["texttemplate"] = "%{text}"
    labels = [html.escape(row) for row in rows]
    heatmap = go.Heatmap(z=values, x=list(columns), y=labels, xgap=1, ygap=1, **arguments)
    figure = go.Figure(heatmap)
    figure.update_yaxes(autorange="reversed", dtick=1)
    figure.update_xaxes(dtick=1)  # label every class, even on a narrow page
    figure.update_layout(height=170 + 30 * len(rows))
    return figure


def _cell_texts(values: Sequence[float | None], sign: str) -> list[str]:
    return ["n/a" if value is None else f"{value:{sign}.1f}" for value in values]


def _class_ious(row: Mapping[str, Any]) -> list[float | None]:
    """Return a candidate's IoU of each class, in points."""
    return [None if iou is None else 100 * iou for iou in row["iou"].values()]


def _class_gains(row: Mapping[str, Any], base: Mapping[str, Any]) -> list[float | None]:
    """Return a candidate's IoU of each class minus the baseline's, in points."""
    gains: list[float | None] = []
    for name, iou in row["iou"].items():
        base_iou = base["iou"][name]
        gains.append(None if iou is None or base_iou is None else 100 * (iou - base_iou))
    return gains


def _row_shares(counts: Sequence[int]) -> list[float | None]:
    """Return the counts in % of their sum; None for a class without pixels."""
    total = sum(counts)
    return [100 * count / total if total else None for count in counts]


def _largest_confusion(
    names: Sequence[str], shares: Sequence[Sequence[float | None]]
) -> tuple[float, str, str] | None:
    """Return (share, true class, predicted class); None if there is no confusion."""
    confusions = []
    for true, row in zip(names, shares, strict=True):
        for predicted, share in zip(names, row, strict=True):
            if share and true != predicted:
                confusions.append((share, true, predicted))
    return max(confusions, default=None)


def _pareto_front(rows: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Return the Pareto front of rows (cost, value, name), cheapest first."""
    front: list[tuple[float, float, str]] = []
    for row in sorted(rows, key=lambda r: (r[0], -r[1])):
        if not front or row[1] > front[-1][1]:
            front.append(row)
    return front


def _omitted(rows: Rows) -> str:
    return (
        f" Only the best {_MOST_ROWS} of {len(rows)} are drawn." if len(rows) > _MOST_ROWS else ""
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
