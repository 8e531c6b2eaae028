"""The figures of a sweep: its progress, and the effect of its hyperparameters."""

import html
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from segtune.pages.colors import SERIES
from segtune.report.axes import ABSENT, is_number, parallel_axis, spans_decades
from segtune.report.figures import Figure, finished

Trials = Sequence[Mapping[str, Any]]
"""Trials as `sweeping.records.trial_rows` returns them."""
Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Val mIoU as (epoch, value), by run name."""

_FINISHED = "complete"
_MOST_PARAMETERS = 8
_MOST_LEGEND_ENTRIES = 24


def sweep_figures(
    trials: Trials, curves: Curves, pruned: Sequence[str], shares: Mapping[str, float]
) -> list[Figure]:
    """Return the figures of a sweep; a figure without data is left out.

    Args:
        pruned: names of the pruned runs.
        shares: importance of each hyperparameter.
    """
    figures = [learning_curves(curves, pruned)] if curves else []
    finished_trials = [t for t in trials if t["state"] == _FINISHED]
    if len(finished_trials) < 2:
        return figures
    figures.append(history(trials))
    if shares:
        figures.append(importance_bars(shares))
    varied = _varied(finished_trials)
    if varied:
        figures += [parallel_coordinates(finished_trials, varied), slices(finished_trials, varied)]
    return figures


def learning_curves(curves: Curves, pruned: Sequence[str]) -> Figure:
    """Draw val mIoU by epoch, one line per run; pruned runs are dotted and end in a cross."""
    figure = go.Figure()
    for number, (name, curve) in enumerate(curves.items()):
        is_pruned = name in pruned
        last_size = 9 if is_pruned else 5
        figure.add_scatter(
            x=[epoch + 1 for epoch, _ in curve],
            y=[100 * value for _, value in curve],
            name=html.escape(name) + (" (pruned)" if is_pruned else ""),
            mode="lines+markers",
            line={
                "color": SERIES[number % len(SERIES)],
                "dash": "dot" if is_pruned else "solid",
                "width": 2,
            },
            marker={
                "size": [4] * (len(curve) - 1) + [last_size],
                "symbol": "x" if is_pruned else "circle",
            },
        )
    pruned_curves = set(pruned) & set(curves)
    caption = f"Runs: {len(curves)} ({len(pruned_curves)} pruned)."
    peaks = {}
    for name, curve in curves.items():
        if curve:
            peaks[name] = max(value for _, value in curve)
    if peaks:
        best = max(peaks, key=lambda name: peaks[name])
        caption += f" {best} reached the highest value, {100 * peaks[best]:.1f}."
    figure.update_layout(height=460, showlegend=len(curves) <= _MOST_LEGEND_ENTRIES)
    title = "Val mIoU by epoch (points)"
    return finished("curves", title, caption, figure, x="epoch", y="val mIoU (points)")


def history(trials: Trials) -> Figure:
    """Draw the mIoU of each trial in the order of its number, and the best so far."""
    complete = [t for t in trials if t["state"] == _FINISHED]
    mious = [100 * t["miou"] for t in complete]
    best_so_far = list(accumulate(mious, max))
    numbers = [t["number"] for t in complete]
    figure = go.Figure()
    marker = {"color": SERIES[0], "size": 8}
    figure.add_scatter(x=numbers, y=mious, mode="markers", name="trial", marker=marker)
    line = {"color": SERIES[1], "shape": "hv"}
    figure.add_scatter(x=numbers, y=best_so_far, mode="lines", name="best so far", line=line)
    figure.update_layout(height=340)
    pruned = sum(t["state"] == "pruned" for t in trials)
    best = max(complete, key=lambda t: t["miou"])
    caption = (
        f"{len(complete)} finished and {pruned} pruned trials; the best is trial {best['number']}."
    )
    title = "Optimisation history (points)"
    return finished("history", title, caption, figure, x="trial", y="val mIoU (points)")


def importance_bars(importance: Mapping[str, float]) -> Figure:
    """Draw the share of each hyperparameter in the variance of mIoU over the finished trials."""
    rows = sorted(importance.items(), key=lambda row: row[1])
    names = [html.escape(name) for name, _ in rows]
    shares = [share for _, share in rows]
    figure = go.Figure(go.Bar(x=shares, y=names, orientation="h", marker={"color": SERIES[0]}))
    figure.update_layout(height=140 + 30 * len(rows))
    listed = ", ".join(f"{name} {share:.2f}" for name, share in reversed(rows))
    caption = f"Share of the variance of mIoU that each hyperparameter explains: {listed}."
    title = "Hyperparameter importance (fANOVA)"
    return finished("importance", title, caption, figure, x="share of variance")


def parallel_coordinates(trials: Trials, varied: Sequence[str]) -> Figure:
    """Draw a line per finished trial across the parameters that varied, coloured by mIoU.

    Plotly's own parallel coordinates need WebGL, which some browsers lack.
    """
    keys = list(varied)[:_MOST_PARAMETERS]
    mious = [100 * t["miou"] for t in trials]
    axes = []
    for key in keys:
        axes.append(parallel_axis([t["params"].get(key, ABSENT) for t in trials]))
    axes.append(parallel_axis(mious))
    places = list(range(len(axes)))
    figure = go.Figure()
    by_miou = sorted(range(len(trials)), key=lambda n: mious[n])  # the best is drawn on top
    for n in by_miou:
        color = sample_colorscale("Viridis", [axes[-1].heights[n]])[0]
        name = f"trial {trials[n]['number']}: {mious[n]:.1f}"
        figure.add_scatter(
            x=places,
            y=[axis.heights[n] for axis in axes],
            mode="lines",
            line={"color": color},
            name=name,
            hovertemplate=f"{name}<extra></extra>",
        )
    for place, axis in enumerate(axes):
        figure.add_vline(x=place, line={"color": "#a0aec0", "width": 1})
        for height, text in axis.ticks:
            figure.add_annotation(
                x=place,
                y=height,
                text=html.escape(text),
                showarrow=False,
                xshift=4,
                xanchor="left",
                font={"size": 11},
                bgcolor="rgba(255,255,255,0.7)",
            )
    labels = [*map(html.escape, keys), "val mIoU"]
    figure.update_xaxes(tickvals=places, ticktext=labels, showgrid=False, zeroline=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(height=420, showlegend=False)
    caption = (
        f"Each line is one of {len(trials)} finished trials; bright lines have a high val mIoU. "
        f"Axes: {', '.join(keys)}."
    )
    if not all(t["params"].keys() >= set(keys) for t in trials):
        caption += " A trial without a parameter crosses its axis at the dash."
    title = "Parameters of the trials (val mIoU in points)"
    return finished("parallel", title, caption, figure)


def slices(trials: Trials, varied: Sequence[str]) -> Figure:
    """Draw mIoU against each parameter that varied, one panel per parameter."""
    keys = list(varied)[:_MOST_PARAMETERS]
    columns = min(4, len(keys))
    rows = -(-len(keys) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.25
    )
    for n, key in enumerate(keys):
        panel = {"row": n // columns + 1, "col": n % columns + 1}
        with_key = [t for t in trials if key in t["params"]]
        values = [t["params"][key] for t in with_key]
        axis: dict[str, str] = {}
        if not all(map(is_number, values)):
            values = [html.escape(str(v)) for v in values]
            axis = {"type": "category"}
        elif spans_decades(values):
            axis = {"type": "log"}
        mious = [100 * t["miou"] for t in with_key]
        marker = {"color": SERIES[0], "size": 7}
        figure.add_scatter(x=values, y=mious, mode="markers", marker=marker, **panel)
        figure.update_xaxes(title_text=html.escape(key), **axis, **panel)
    figure.update_yaxes(title_text="val mIoU (points)", col=1)
    figure.update_layout(showlegend=False, height=120 + 230 * rows)
    caption = f"One panel per parameter: {', '.join(keys)}."
    return finished("slices", "val mIoU by parameter (points)", caption, figure)


def _varied(trials: Trials) -> list[str]:
    """Return the parameters with more than one value."""
    values: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in trial["params"].items():
            values.setdefault(key, set()).add(str(value))
    return [key for key, distinct in values.items() if len(distinct) > 1]
