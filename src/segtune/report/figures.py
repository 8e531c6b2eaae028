"""The figures of a comparison: each is plotly drawn by script in the page, with a title, units and words beside it."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from segtune.report.phrasing import points

PALETTE = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#718096", "#975a16", "#2c7a7b")
_MOST_ROWS = 24
_TEXT_CLASSES = 25  # above this, figures in the cells cannot be read
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        alternative: what it shows, in words, for those who cannot see it.
        data: plotly's JSON, safe inside a script element.
    """

    id: str
    title: str
    alternative: str
    data: str


def plotly_script() -> str:
    """Plotly's source, to be part of the page: a report opens from disk without a network."""
    return str(get_plotlyjs())


def comparison_figures(facts: Facts, best: Mapping[str, Any]) -> list[Figure]:
    """All figures that rest on evidence.

    Args:
        best: of the best candidate, `matrix` (C, C) and of some candidates `reliability`, points by name.
    """
    figures = [miou_dots(facts), class_heatmap(facts)]
    if facts["method"] is not None and len(facts["candidates"]) > 1:
        figures.append(class_differences(facts))
    figures += [confusion(facts, best["matrix"]), reliability(best["reliability"])]
    return [*figures, pareto(facts)]


def miou_dots(facts: Facts) -> Figure:
    """MIoU of each candidate: its interval as a line, each seed as a dot."""
    rows = facts["candidates"][:_MOST_ROWS]
    figure = go.Figure()
    for row in reversed(rows):
        name = html.escape(row["name"])
        if row["interval"]:
            span = [100 * row["interval"]["low"], 100 * row["interval"]["high"]]
            figure.add_scatter(
                x=span, y=[name] * 2, mode="lines", line={"color": "#a0aec0", "width": 7}
            )
        seeds = [100 * r["miou"] for r in row["runs"]]
        figure.add_scatter(
            x=seeds, y=[name] * len(seeds), mode="markers", marker={"size": 9, "color": PALETTE[0]}
        )
    figure.update_layout(height=130 + 26 * len(rows), showlegend=False)
    words = f"{_listed(rows)}. A dot is a seed; the line is the 95 % interval over images."
    words += _left_out(facts["candidates"])
    return finished(
        "miou", f"mIoU on {facts['split']['name']} (points)", words, figure, x="mIoU (points)"
    )


def class_heatmap(facts: Facts) -> Figure:
    """IoU of each class (columns) in each candidate (rows); a class that is absent is left empty."""
    rows, classes = facts["candidates"][:_MOST_ROWS], facts["split"]["classes"]
    values = [[None if v is None else 100 * v for v in row["iou"].values()] for row in rows]
    known = [(c["name"], v) for c, v in zip(classes, values[0], strict=True) if v is not None]
    words = "IoU in points of each class in each candidate; beside a class, its share of the pixels and its images."
    if known:
        low, high = min(known, key=lambda k: k[1]), max(known, key=lambda k: k[1])
        words += f" In {rows[0]['name']} the weakest is {low[0]} ({low[1]:.1f}), the strongest {high[0]} ({high[1]:.1f})."
    words += _left_out(facts["candidates"])
    total = sum(c["pixels"] for c in classes) or 1
    labels = [
        f"{html.escape(c['name'])} ({100 * c['pixels'] / total:.1f} %, {c['images']} img)"
        for c in classes
    ]
    figure = _heatmap(
        values, labels, [r["name"] for r in rows], "IoU", zmin=0, zmax=100, colorscale="Viridis"
    )
    return finished("classes", "IoU per class (points)", words, figure)


def class_differences(facts: Facts) -> Figure:
    """IoU of each class minus the baseline's."""
    base = next(r for r in facts["candidates"] if r["name"] == facts["baseline"])
    rows = [r for r in facts["candidates"] if r is not base][:_MOST_ROWS]
    values = [
        [
            None if None in (v, base["iou"][c]) else 100 * (v - base["iou"][c])
            for c, v in r["iou"].items()
        ]
        for r in rows
    ]
    widest = max((abs(v) for row in values for v in row if v is not None), default=1.0) or 1.0
    labels = [html.escape(c["name"]) for c in facts["split"]["classes"]]
    figure = _heatmap(
        values,
        labels,
        [r["name"] for r in rows],
        "difference",
        zmin=-widest,
        zmax=widest,
        colorscale="RdBu",
        sign="+",
    )
    words = f"IoU per class minus that of {facts['baseline']}, in points; blue is better than it, red is worse."
    words += _left_out([r for r in facts["candidates"] if r is not base])
    return finished(
        "differences", f"Difference to {facts['baseline']} per class (points)", words, figure
    )


def confusion(facts: Facts, matrix: Sequence[Sequence[int]]) -> Figure:
    """Of the best candidate: how the pixels of each true class (rows) were labelled (columns)."""
    names = [c["name"] for c in facts["split"]["classes"]]
    rows = [[100 * v / sum(row) if sum(row) else None for v in row] for row in matrix]
    labels = [html.escape(n) for n in names]
    figure = _heatmap(rows, labels, names, "% of row", zmin=0, zmax=100, colorscale="Blues")
    worst = max(
        (
            (v, a, b)
            for a, row in zip(names, rows, strict=True)
            for b, v in zip(names, row, strict=True)
            if v and a != b
        ),
        default=None,
    )
    words = f"{facts['candidates'][0]['name']}: rows are true classes, columns what they were taken for, in % of the row."
    if worst:
        words += f" Most often {worst[1]} is taken for {worst[2]} ({worst[0]:.1f} %)."
    figure.update_xaxes(title="predicted")
    figure.update_yaxes(title="true")
    return finished(
        "confusion", "Confusion matrix of the best (% of the true class)", words, figure
    )


def reliability(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Share of right pixels by confidence, and the diagonal of perfect calibration."""
    figure = go.Figure()
    ends = [0, 100]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="perfect", line={"color": "#a0aec0", "dash": "dot"}
    )
    for n, (name, found) in enumerate(curves.items()):
        figure.add_scatter(
            x=[100 * c for c, _, _ in found], y=[100 * r for _, r, _ in found], name=html.escape(name),
            mode="lines+markers", line={"color": PALETTE[n % len(PALETTE)]},
        )  # fmt: skip
    words = "Below the diagonal a segmenter is surer than it is right, above it less sure than it could be."
    figure.update_layout(height=420)
    return finished(
        "reliability",
        "Reliability (share right by confidence)",
        words,
        figure,
        x="confidence (%)",
        y="right (%)",
    )


def pareto(facts: Facts) -> Figure:
    """MIoU against latency and against parameters; the candidates that none beats in both are joined."""
    from plotly.subplots import make_subplots

    axes = (("latency_ms", "latency, median (ms)"), ("params_m", "parameters (millions)"))
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    said = []
    for n, (key, label) in enumerate(axes, start=1):
        rows = [r for r in facts["candidates"] if key in r["cost"]]
        front = _front([(r["cost"][key], 100 * r["miou"], r["name"]) for r in rows])
        names = [html.escape(r["name"]) for r in rows]
        x, y = [r["cost"][key] for r in rows], [100 * r["miou"] for r in rows]
        figure.add_scatter(
            x=x, y=y, text=names, mode="markers", marker={"color": PALETTE[0], "size": 8}, row=1, col=n,
            hovertemplate="%{text}: %{y:.1f} at %{x:.3g}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(x=[f[0] for f in front], y=[f[1] for f in front], mode="lines", row=1, col=n,
                           line={"color": PALETTE[1], "shape": "hv"}, hoverinfo="skip")  # fmt: skip
        figure.update_xaxes(title_text=label, row=1, col=n)
        said.append(f"{label.split(',')[0].split(' (')[0]}: " + ", ".join(f[2] for f in front[:8]))
    figure.update_yaxes(title_text="mIoU (points)", row=1, col=1)
    figure.update_layout(showlegend=False, height=380)
    words = f"The line is the Pareto front. {'; '.join(said)}."
    return finished("pareto", "mIoU against latency and size", words, figure)


def finished(
    key: str, title: str, words: str, figure: go.Figure, x: str = "", y: str = ""
) -> Figure:
    """A figure of the page out of plotly's, in the report's looks."""
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 34, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": -0.2},
    )
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    figure.update_yaxes(automargin=True)
    figure.update_xaxes(automargin=True)
    plain: Any = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    # "</" would end the script element that carries the data
    return Figure(key, title, words, json.dumps(plain).replace("</", "<\\/"))


def _heatmap(
    values: Sequence[Sequence[float | None]], columns: Sequence[str], rows: Sequence[str], bar: str, *,
    zmin: float, zmax: float, colorscale: str, sign: str = "",
) -> go.Figure:  # fmt: skip
    text = [["n/a" if v is None else f"{v:{sign}.1f}" for v in row] for row in values]
    shown = {"text": text, "texttemplate": "%{text}"} if len(columns) <= _TEXT_CLASSES else {}
    heatmap = go.Heatmap(
        z=values, x=list(columns), y=[html.escape(r) for r in rows], zmin=zmin, zmax=zmax, colorscale=colorscale,
        colorbar={"title": bar}, xgap=1, ygap=1, **shown,
    )  # fmt: skip
    figure = go.Figure(heatmap)
    figure.update_yaxes(autorange="reversed", dtick=1)
    figure.update_xaxes(dtick=1)  # every class is named, however narrow the page
    figure.update_layout(height=170 + 30 * len(rows))
    return figure


def _front(rows: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Of (cost, figure, name), those with a higher figure than all that cost no more; cheapest first."""
    front: list[tuple[float, float, str]] = []
    for row in sorted(rows, key=lambda r: (r[0], -r[1])):
        if not front or row[1] > front[-1][1]:
            front.append(row)
    return front


def _left_out(rows: Sequence[Mapping[str, Any]]) -> str:
    return f" The best {_MOST_ROWS} of {len(rows)} are drawn." if len(rows) > _MOST_ROWS else ""


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{r['name']} {points(r['miou'])}" for r in rows[:8]) + (
        ", …" if len(rows) > 8 else ""
    )
