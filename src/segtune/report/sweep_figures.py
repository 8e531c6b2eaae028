"""The figures of a sweep: its progress, and the effect of its hyperparameters."""

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from segtune.pages.colors import SERIES
from segtune.report.axes import ABSENT, is_number, parallel_axis, spans_decades
from segtune.report.figures import GREY, Figure, finished, whole_numbers

Trials = Sequence[Mapping[str, Any]]
"""Trials as `sweeping.records.trial_rows` returns them."""
Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Val mIoU as (epoch, value), by run name."""

_FINISHED = "complete"
_MOST_PARAMETERS = 8
_MOST_LEGEND_ENTRIES = 24
_SHADES = 12


@dataclass(frozen=True)
class SweepFacts:
    """The facts of a study that its figures show.

    Attributes:
        shares: importance of each hyperparameter; empty with too few trials.
        ranges: the 80 % range of each share.
        log_params: hyperparameters that are searched on a logarithmic scale.
    """

    trials: Trials = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    log_params: Collection[str] = ()


def sweep_figures(sweep: SweepFacts, curves: Curves, pruned: Sequence[str]) -> list[Figure]:
    """Return the figures of a sweep; a figure without data is left out.

    Args:
        pruned: names of the pruned runs.
    """
    trials = sweep.trials
    figures = [learning_curves(curves, pruned)] if curves else []
    finished_trials = [t for t in trials if t["state"] == _FINISHED]
    if len(finished_trials) < 2:
        return figures
    figures.append(history(trials))
    if sweep.shares:
        figures.append(importance_bars(sweep.shares, sweep.ranges, len(finished_trials)))
    varied = _varied(finished_trials)
    if varied:
        figures.append(parallel_coordinates(finished_trials, varied, sweep.log_params))
        figures.append(slices(finished_trials, varied, sweep.log_params))
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
    epochs = [epoch for epoch, _ in chain.from_iterable(curves.values())]
    figure.update_xaxes(**whole_numbers(epochs))
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
    figure.update_xaxes(**whole_numbers(numbers))
    pruned = sum(t["state"] == "pruned" for t in trials)
    best = max(complete, key=lambda t: t["miou"])
    caption = (
        f"{len(complete)} finished and {pruned} pruned trials; the best is trial {best['number']}."
    )
    title = "Optimisation history (points)"
    return finished("history", title, caption, figure, x="trial", y="val mIoU (points)")


def importance_bars(
    shares: Mapping[str, float], ranges: Mapping[str, tuple[float, float]], trials: int
) -> Figure:
    """Draw the share of each hyperparameter in the variance of mIoU over the finished trials.

    Args:
        ranges: (low, high) of each share over resamples of the trials.
        trials: number of finished trials.
    """
    rows = sorted(shares.items(), key=lambda row: row[1])
    ends = [ranges.get(name, (share, share)) for name, share in rows]
    bars = go.Bar(
        x=[share for _, share in rows],
        y=[html.escape(name) for name, _ in rows],
        orientation="h",
        marker={"color": SERIES[0]},
        error_x={
            "array": [max(0, high - row[1]) for row, (_, high) in zip(rows, ends, strict=True)],
            "arrayminus": [max(0, row[1] - low) for row, (low, _) in zip(rows, ends, strict=True)],
            "color": GREY,
        },
    )
    figure = go.Figure(bars)
    figure.update_layout(height=140 + 30 * len(rows))
    figure.update_xaxes(range=[0, 1.08 * max(0.1, *(max(high, low) for low, high in ends))])
    words = []
    for (name, share), (low, high) in zip(rows, ends, strict=True):
        words.append(f"{name} {share:.2f} [{low:.2f}, {high:.2f}]")
    caption = (
        "Share of the variance of mIoU that each hyperparameter explains, with the range of 80 % "
        f"of the resamples of {trials} trials: {', '.join(reversed(words))}."
    )
    title = "Hyperparameter importance (fANOVA)"
    return finished("importance", title, caption, figure, x="share of variance")


def parallel_coordinates(
    trials: Trials, varied: Sequence[str], log_params: Collection[str]
) -> Figure:
    """Draw a line per finished trial across the parameters that varied, coloured by mIoU.

    Plotly's own parallel coordinates need WebGL, which some browsers lack.
    """
    keys = list(varied)[:_MOST_PARAMETERS]
    mious = [100 * t["miou"] for t in trials]
    axes = []
    for key in keys:
        values = [t["params"].get(key, ABSENT) for t in trials]
        axes.append(parallel_axis(values, is_log=key in log_params))
    axes.append(parallel_axis(mious))
    places = list(range(len(axes)))
    figure = go.Figure()
    for color, lines in _lines_by_color(axes[-1].heights):
        names = [f"trial {trials[n]['number']}: {mious[n]:.1f}" for n in lines]
        figure.add_scatter(
            # one trace for each colour: a trace for each of 1,000 trials takes seconds to draw
            x=[*places, None] * len(lines),
            y=list(chain.from_iterable([*(a.heights[n] for a in axes), None] for n in lines)),
            text=list(chain.from_iterable([name] * (len(axes) + 1) for name in names)),
            mode="lines",
            line={"color": color},
            hovertemplate="%{text}<extra></extra>",
        )
    for place, axis in enumerate(axes):
        figure.add_vline(x=place, line={"color": GREY, "width": 1})
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


def _lines_by_color(heights: Sequence[float]) -> list[tuple[str, list[int]]]:
    """Return (colour, numbers of the lines) for each shade, the best on top."""
    lines: dict[int, list[int]] = {}
    for number, height in enumerate(heights):
        lines.setdefault(round(height * _SHADES), []).append(number)
    colors = sample_colorscale("Viridis", [shade / _SHADES for shade in sorted(lines)])
    return list(zip(colors, [lines[shade] for shade in sorted(lines)], strict=True))


def slices(trials: Trials, varied: Sequence[str], log_params: Collection[str]) -> Figure:
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
        axis: dict[str, Any] = {}
        if not all(map(is_number, values)):
            values = [html.escape(str(v)) for v in values]
            axis = {"type": "category"}
        elif key in log_params or spans_decades(values):
            axis = {"type": "log", "dtick": 1, "exponentformat": "power"}
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
