"""Figures show figures of the same computation alike, and axes as people read them."""

import json

import pytest

from segtune.report.cost import shared_latency
from segtune.report.figures import miou_dots, pareto
from segtune.report.sweep_figures import SweepFacts, sweep_figures


def candidate(name, miou, latency, params=1.0, **fields):
    cost = {"latency_ms": latency, "params_m": params, "gflops": 2.0}
    row = {"name": name, "miou": miou, "cost": cost, "device": "cpu", "template": "swift"}
    return row | {"runs": [{"miou": miou}], "interval": None} | fields


def drawn(figure):
    return json.loads(figure.data)


def test_candidates_of_one_architecture_share_the_median_of_their_latencies():
    rows = [
        candidate("a", 0.6, 6.4),
        candidate("b", 0.7, 7.1),
        candidate("c", 0.5, 3.0, params=0.5),
    ]
    rows.append(candidate("d", 0.4, 9.0, device="gpu"))
    shared = shared_latency(rows)
    assert shared[0] == shared[1] == {"median": 6.75, "low": 6.4, "high": 7.1, "runs": 2}
    assert [s["median"] for s in shared[2:]] == [3.0, 9.0]
    unknown = {"cost": {"latency_ms": 1.0}, "device": "cpu", "name": "e"}
    other = {"cost": {"latency_ms": 2.0}, "device": "cpu", "name": "f"}
    absent = {"cost": {}, "device": "cpu", "name": "g"}
    assert [s and s["median"] for s in shared_latency([unknown, other, absent])] == [1.0, 2.0, None]


def test_the_pareto_front_does_not_follow_the_noise_of_timing():
    rows = [candidate("slow", 0.7, 7.1), candidate("fast", 0.6, 6.4)]
    facts = {
        "candidates": [r | {"latency": s} for r, s in zip(rows, shared_latency(rows), strict=True)]
    }
    figure = pareto(facts)
    assert "Latency: slow." in figure.alternative  # `fast` is no faster
    assert drawn(figure)["data"][1]["x"] == [6.75]


def test_no_dot_or_interval_of_the_miou_figure_touches_the_border():
    interval = {"low": 0.5, "high": 0.8}
    rows = [candidate("a", 0.81, 1.0, interval=interval), candidate("b", 0.6, 1.0)]
    figure = miou_dots({"candidates": rows, "split": {"name": "val"}})
    low, high = drawn(figure)["layout"]["xaxis"]["range"]
    assert low < 50 and high > 81


@pytest.mark.parametrize(("number", "expected"), [(4, {"dtick": 1}), (40, {"tickformat": "d"})])
def test_trials_are_whole_and_searched_scales_are_logarithmic(number, expected):
    trials = []
    for n in range(number):
        params = {"hp.rate": 0.001 * (n + 1), "hp.width": n + 1}
        trials.append({"number": n, "state": "complete", "miou": n / 50, "params": params})
    sweep = SweepFacts(trials, {"hp.rate": 0.9}, {"hp.rate": (0.5, 0.95)}, {"hp.rate"})
    figures = {f.id: f for f in sweep_figures(sweep, {}, [])}
    axis = drawn(figures["history"])["layout"]["xaxis"]
    assert expected.items() <= axis.items()
    layout = drawn(figures["slices"])["layout"]
    assert layout["xaxis"]["type"] == "log"
    assert (layout["xaxis2"].get("type") == "log") == (number == 40)  # 40 times as large
    bars = drawn(figures["importance"])
    assert bars["layout"]["xaxis"]["range"][1] > 0.95
    assert "hp.rate 0.90 [0.50, 0.95]" in figures["importance"].alternative
    assert len(drawn(figures["parallel"])["data"]) <= 13  # few traces, however many trials
