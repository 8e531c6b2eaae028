"""The report's figures: each is plotly drawn by script in the page, with a title, units and a text alternative."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

PALETTE = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#718096", "#975a16", "#2c7a7b")


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


def learning_curves(curves: Mapping[str, Sequence[tuple[int, float]]], pruned: Sequence[str]) -> Figure:
    """Val mIoU by epoch, a line a run; pruned runs are dotted and end in a cross."""
    figure = go.Figure()
    for n, (name, points) in enumerate(curves.items()):
        dotted = name in pruned
        figure.add_scatter(
            x=[e + 1 for e, _ in points],
            y=[v for _, v in points],
            name=html.escape(name) + (" (pruned)" if dotted else ""),
            mode="lines+markers",
            line={"color": PALETTE[n % len(PALETTE)], "dash": "dot" if dotted else "solid", "width": 2},
            marker={"size": [4] * (len(points) - 1) + [9 if dotted else 5], "symbol": "x" if dotted else "circle"},
        )
    words = f"{len(curves)} runs; {len(pruned)} of them were pruned. " + _extremes(curves)
    return _figure("curves", "Val mIoU by epoch", words, figure, x="epoch", y="val mIoU")


def class_heatmap(names: Sequence[str], classes: Sequence[str], iou: Sequence[Sequence[float | None]]) -> Figure:
    """IoU of each class (columns) in each run (rows); a class that is absent from val is left empty."""
    text = [["n/a" if v is None else f"{100 * v:.1f}" for v in row] for row in iou]
    heatmap = go.Heatmap(
        z=iou,
        x=[html.escape(c) for c in classes],
        y=[html.escape(n) for n in names],
        text=text,
        texttemplate="%{text}",
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        colorbar={"title": "IoU"},
        xgap=1,
        ygap=1,
    )
    figure = go.Figure(heatmap)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=150 + 34 * len(names))
    known = [(c, v) for c, v in zip(classes, iou[0], strict=True) if v is not None] if iou else []
    words = "IoU in percent of each class in each run."
    if known:
        low, high = min(known, key=lambda k: k[1]), max(known, key=lambda k: k[1])
        words += (
            f" In {names[0]} the weakest class is {low[0]} ({low[1]:.3f}), the strongest {high[0]} ({high[1]:.3f})."
        )
    return _figure("classes", "IoU per class (%)", words, figure)


def importance_bars(importance: Mapping[str, float]) -> Figure:
    """Share of each hyperparameter in the variance of mIoU over the finished trials."""
    rows = sorted(importance.items(), key=lambda r: r[1])
    names = [html.escape(n) for n, _ in rows]
    bars = go.Bar(x=[v for _, v in rows], y=names, orientation="h", marker={"color": PALETTE[0]})
    figure = go.Figure(bars)
    figure.update_layout(height=140 + 30 * len(rows))
    words = "; ".join(f"{n} {v:.2f}" for n, v in reversed(rows))
    return _figure("importance", "Hyperparameter importance (fANOVA)", words, figure, x="share of variance")


def _figure(key: str, title: str, words: str, figure: go.Figure, x: str = "", y: str = "") -> Figure:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        xaxis_title=x,
        yaxis_title=y,
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": -0.2},
    )
    figure.update_yaxes(automargin=True)
    plain: Any = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    # "</" would end the script element that carries the data
    return Figure(key, title, words, json.dumps(plain).replace("</", "<\\/"))


def _extremes(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    ends = {n: max(v for _, v in points) for n, points in curves.items() if points}
    if not ends:
        return ""
    best = max(ends, key=lambda n: ends[n])
    return f"The highest value is {ends[best]:.4f}, reached by {best}."
