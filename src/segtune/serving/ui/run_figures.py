"""The curves of a run, drawn in the report's style."""

import html

import plotly.graph_objects as go

from segtune.pages.colors import SERIES
from segtune.report.figures import Figure, finished
from segtune.tracking.runs import RunRecord, curve
from segtune.tracking.store import Store

_CURVES = ("val/miou", "train/loss", "val/loss", "val/ece", "val/boundary_iou", "train/lr")
_CLASS = "val/iou/"
_MOST_CLASSES = 20


def run_figures(store: Store, run: RunRecord) -> list[Figure]:
    """Return a figure for each metric that was logged after several epochs, and one of classes."""
    figures = []
    for key in (name for name in _CURVES if name in run.metrics):
        points = curve(store, run.id, key, as_key=True)
        if len(points) > 1:
            figures.append(_lines(key.replace("/", "-"), key, {key: points}))
    classes = [key for key in run.metrics if key.startswith(_CLASS)][:_MOST_CLASSES]
    by_class = {key.removeprefix(_CLASS): curve(store, run.id, key, as_key=True) for key in classes}
    if any(len(points) > 1 for points in by_class.values()):
        figures.append(_lines("classes", "IoU of each class", by_class))
    return figures


def _lines(key: str, title: str, curves: dict[str, list[tuple[int, float]]]) -> Figure:
    """Draw curves of (step, value)."""
    figure = go.Figure()
    for number, (name, points) in enumerate(curves.items()):
        figure.add_scatter(
            x=[step + 1 for step, _ in points],
            y=[value for _, value in points],
            name=html.escape(name),
            mode="lines+markers",
            line={"color": SERIES[number % len(SERIES)]},
        )
    figure.update_layout(height=300 if len(curves) == 1 else 420, showlegend=len(curves) > 1)
    ends = [f"{name} {points[-1][1]:.4g}" for name, points in curves.items() if points]
    caption = f"Last values: {', '.join(ends)}."
    return finished(key, title, caption, figure, x="epoch or step", y=title)
