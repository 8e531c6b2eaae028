"""The figures of a sweep: how it went, and what its hyperparameters did."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from segtune.report.figures import PALETTE, Figure, finished

Rows = Sequence[Mapping[str, Any]]
"""Trials as `sweeping.records.trial_rows` gives them."""

_FINISHED = "complete"
_MOST_SLICES = 8
_ABSENT = object()  # of a trial that lacks a parameter: None is a value
_DASH = 0.15  # height of the lowest value on an axis that some trials lack


def sweep_figures(
    trials: Rows,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    pruned: Sequence[str],
    shares: Mapping[str, float],
) -> list[Figure]:
    """All figures of a sweep; those that it has nothing for are left out.

    Args:
        curves: val mIoU by epoch, (epoch, value) by run name.
        pruned: names of the runs that were pruned.
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


def learning_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], pruned: Sequence[str]
) -> Figure:
    """Val mIoU by epoch, a line a run; pruned runs are dotted and end in a cross."""
    figure = go.Figure()
    for n, (name, points) in enumerate(curves.items()):
        dotted = name in pruned
        figure.add_scatter(
            x=[e + 1 for e, _ in points],
            y=[100 * v for _, v in points],
            name=html.escape(name) + (" (pruned)" if dotted else ""),
            mode="lines+markers",
            line={
                "color": PALETTE[n % len(PALETTE)],
                "dash": "dot" if dotted else "solid",
                "width": 2,
            },
            marker={
                "size": [4] * (len(points) - 1) + [9 if dotted else 5],
                "symbol": "x" if dotted else "circle",
            },
        )
    ends = {n: max(v for _, v in points) for n, points in curves.items() if points}
    words = f"Runs: {len(curves)}, of which pruned: {len(set(pruned) & set(curves))}."
    if ends:
        best = max(ends, key=lambda n: ends[n])
        words += f" The highest value is {100 * ends[best]:.1f}, reached by {best}."
    figure.update_layout(height=460, showlegend=len(curves) <= 24)
    return finished(
        "curves", "Val mIoU by epoch (points)", words, figure, x="epoch", y="val mIoU (points)"
    )


def history(trials: Rows) -> Figure:
    """MIoU of each trial in the order they were asked, and the best so far."""
    done = [t for t in trials if t["state"] == _FINISHED]
    best, so_far = [], 0.0
    for trial in done:
        so_far = max(so_far, trial["miou"])
        best.append(100 * so_far)
    numbers = [t["number"] for t in done]
    figure = go.Figure()
    figure.add_scatter(x=numbers, y=[100 * t["miou"] for t in done], mode="markers", name="trial",
                       marker={"color": PALETTE[0], "size": 8})  # fmt: skip
    figure.add_scatter(
        x=numbers,
        y=best,
        mode="lines",
        name="best so far",
        line={"color": PALETTE[1], "shape": "hv"},
    )
    pruned = sum(t["state"] == "pruned" for t in trials)
    winner = max(done, key=lambda t: t["miou"])
    words = (
        f"{len(done)} finished and {pruned} pruned trials; the best is trial {winner['number']}."
    )
    figure.update_layout(height=340)
    return finished(
        "history", "Optimisation history (points)", words, figure, x="trial", y="val mIoU (points)"
    )


def importance_bars(importance: Mapping[str, float]) -> Figure:
    """Share of each hyperparameter in the variance of mIoU over the finished trials."""
    rows = sorted(importance.items(), key=lambda r: r[1])
    names = [html.escape(n) for n, _ in rows]
    figure = go.Figure(
        go.Bar(x=[v for _, v in rows], y=names, orientation="h", marker={"color": PALETTE[0]})
    )
    figure.update_layout(height=140 + 30 * len(rows))
    words = "; ".join(f"{n} {v:.2f}" for n, v in reversed(rows))
    return finished(
        "importance", "Hyperparameter importance (fANOVA)", words, figure, x="share of variance"
    )


def parallel_coordinates(trials: Rows, varied: Sequence[str]) -> Figure:
    """A line for each finished trial across the parameters that varied, coloured by mIoU.

    Drawn as plain lines: plotly's own parallel coordinates want WebGL, which not every browser has.
    """
    shown = list(varied)[:_MOST_SLICES]
    mious = [100 * t["miou"] for t in trials]
    axes = [*(_axis([t["params"].get(k, _ABSENT) for t in trials]) for k in shown), _axis(mious)]
    labels = [*map(html.escape, shown), "val mIoU"]
    figure = go.Figure()
    order = sorted(range(len(trials)), key=lambda n: mious[n])  # the best on top
    for n in order:
        heights = [axis.heights[n] for axis in axes]
        color = sample_colorscale("Viridis", [axes[-1].heights[n]])[0]
        name = f"trial {trials[n]['number']}: {mious[n]:.1f}"
        figure.add_scatter(
            x=list(range(len(axes))), y=heights, mode="lines", line={"color": color}, name=name,
            hovertemplate=f"{name}<extra></extra>",
        )  # fmt: skip
    for place, axis in enumerate(axes):
        figure.add_vline(x=place, line={"color": "#a0aec0", "width": 1})
        for height, text in axis.ticks:
            figure.add_annotation(x=place, y=height, text=html.escape(text), showarrow=False, xshift=4, xanchor="left",
                                  font={"size": 11}, bgcolor="rgba(255,255,255,0.7)")  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(axes))), ticktext=labels, showgrid=False, zeroline=False
    )
    figure.update_yaxes(visible=False)
    figure.update_layout(height=420, showlegend=False)
    words = f"Each line is one of {len(trials)} finished trials; bright lines have a high val mIoU (points). "
    words += f"Axes: {', '.join(shown)}."
    if any(k not in t["params"] for k in shown for t in trials):
        words += " A trial without a parameter crosses its axis at the dash."
    return finished("parallel", "Parameters of the trials (val mIoU in points)", words, figure)


def slices(trials: Rows, varied: Sequence[str]) -> Figure:
    """MIoU against each parameter that varied, one panel each."""
    shown = list(varied)[:_MOST_SLICES]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.25
    )
    for n, key in enumerate(shown):
        having = [t for t in trials if key in t["params"]]
        x = [t["params"][key] for t in having]
        words = not all(map(_is_number, x))
        at = {"row": n // columns + 1, "col": n % columns + 1}
        figure.add_scatter(x=[html.escape(str(v)) for v in x] if words else x, y=[100 * t["miou"] for t in having],
                           mode="markers", marker={"color": PALETTE[0], "size": 7}, **at)  # fmt: skip
        kind = {"type": "category"} if words else {"type": "log"} if _spans_decades(x) else {}
        figure.update_xaxes(title_text=html.escape(key), **kind, **at)
    figure.update_yaxes(title_text="val mIoU (points)", col=1)
    figure.update_layout(showlegend=False, height=120 + 230 * rows)
    return finished(
        "slices", "val mIoU by parameter (points)", f"One panel each: {', '.join(shown)}.", figure
    )


def _varied(trials: Rows) -> list[str]:
    keys = dict.fromkeys(k for t in trials for k in t["params"])
    return [k for k in keys if len({str(t["params"][k]) for t in trials if k in t["params"]}) > 1]


@dataclass(frozen=True)
class _Axis:
    """One axis of the parallel coordinates: a height in [0, 1] for each trial, and labelled heights."""

    heights: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def _axis(values: Sequence[Any]) -> _Axis:
    """The axis of a parameter; a trial that lacks it crosses it at a dash below all values."""
    present = [v for v in values if v is not _ABSENT]
    axis = (
        _numbers(present) if all(map(_is_number, present)) else _choices([str(v) for v in present])
    )
    if len(present) == len(values):
        return axis
    raised = iter(_DASH + (1 - _DASH) * h for h in axis.heights)
    ticks = [(_DASH + (1 - _DASH) * h, text) for h, text in axis.ticks]
    return _Axis([0.0 if v is _ABSENT else next(raised) for v in values], [(0.0, "–"), *ticks])


def _numbers(values: Sequence[float]) -> _Axis:
    scale = math.log if _spans_decades(values) else float
    low, high = scale(min(values)), scale(max(values))
    span = high - low or 1.0
    ends = [(0.0, f"{min(values):.3g}"), (1.0, f"{max(values):.3g}")]
    return _Axis([(scale(v) - low) / span for v in values], ends if low < high else ends[:1])


def _choices(values: Sequence[str]) -> _Axis:
    """Numbers, which a study keeps as text where they are choices, stand in their order."""
    try:
        known = sorted(set(values), key=float)
    except ValueError:
        known = sorted(set(values))
    step = 1 / max(1, len(known) - 1)
    return _Axis(
        [known.index(v) * step for v in values], [(n * step, k) for n, k in enumerate(known)]
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spans_decades(values: Sequence[Any]) -> bool:
    return bool(min(values) > 0 and max(values) / min(values) > 20)
