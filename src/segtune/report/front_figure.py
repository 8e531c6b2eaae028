"""The figure of a sweep with several objectives: its finished trials and their Pareto front."""

import html

from plotly.subplots import make_subplots

from segtune.pages.colors import SERIES
from segtune.report.figures import Figure, finished
from segtune.sweeping.objectives import Objective, label
from segtune.sweeping.records import ObjectivePoints

_MOST_NAMED = 8  # trials in the caption


def front_figure(points: ObjectivePoints) -> Figure:
    """Draw the first objective against each other one."""
    objectives = points.objectives
    others = range(1, len(objectives))
    figure = make_subplots(cols=len(others), shared_yaxes=True, horizontal_spacing=0.04)
    groups = {
        "other trials": {n: v for n, v in points.values.items() if n not in points.front},
        "Pareto front": {n: points.values[n] for n in points.front},
    }
    for column in others:
        for (name, members), color in zip(groups.items(), SERIES, strict=False):
            figure.add_scatter(
                x=[values[column] for values in members.values()],
                y=[values[0] for values in members.values()],
                text=[f"trial {number}" for number in members],
                mode="markers",
                name=name,
                showlegend=column == 1,
                marker={"color": color, "size": 8},
                hovertemplate="%{text}: %{y:.4g} at %{x:.4g}<extra></extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=_axis(objectives[column]), row=1, col=column)
    figure.update_yaxes(title_text=_axis(objectives[0]), row=1, col=1)
    figure.update_layout(height=380)
    listed = ", ".join(str(number) for number in points.front[:_MOST_NAMED])
    more = ", …" if len(points.front) > _MOST_NAMED else ""
    caption = (
        f"{len(points.front)} of {len(points.values)} finished trials are on the Pareto front: no "
        "other trial is as good in every objective and better in one. They are the trials "
        f"{listed}{more}."
    )
    return finished("front", "The front of the sweep's objectives", caption, figure)


def _axis(objective: Objective) -> str:
    wish = "less" if objective.direction == "minimize" else "more"
    return html.escape(f"{label(objective.name)} ({wish} is better)")
