/* Curves of any recorded metric by epoch: of each run, or the mean of each group of runs. */
"use strict";

const SHOWN_CURVES = 24; // groups
const metricChoice = document.getElementById("curve-metric");
let curveGroups = [];

/* Return (epoch, mean, standard error, n) of a group; n counts the runs that reached the epoch. */
function meanCurve(runs, curves) {
  const byEpoch = new Map();
  for (const run of runs) {
    for (const [epoch, value] of curves[run.run]?.points ?? []) {
      byEpoch.set(epoch, [...(byEpoch.get(epoch) ?? []), value]);
    }
  }
  return [...byEpoch].sort((a, b) => a[0] - b[0]).map(([epoch, values]) => ({epoch, ...summary(values)}));
}

function groupTrace(group, curves) {
  const points = meanCurve(group.runs, curves), last = points.at(-1);
  if (!last) return null;
  const error = last.error === null ? "" : ` ± ${last.error.toPrecision(2)}`;
  return {
    x: points.map(point => point.epoch + 1), y: points.map(point => point.mean),
    error_y: {array: points.map(point => point.error ?? 0), thickness: 1, width: 2},
    name: escapeText(`${group.label}: ${Number(last.mean.toPrecision(4))}${error} (n=${last.n})`),
    mode: "lines+markers", marker: {size: 4},
  };
}

function runTrace(curve) {
  return {
    x: curve.points.map(point => point[0] + 1), y: curve.points.map(point => point[1]),
    name: escapeText(curve.name) + (curve.pruned ? " (pruned)" : ""), mode: "lines+markers",
    line: {dash: curve.pruned ? "dot" : "solid", width: 2}, marker: {size: 4},
  };
}

function drawCurves() {
  const metric = metricChoice.value, curves = report.curves[metric];
  const traces = curveGroups.length
    ? curveGroups.slice(0, SHOWN_CURVES).map(group => groupTrace(group, curves)).filter(Boolean)
    : Object.values(curves).map(runTrace);
  const plot = document.getElementById("curves");
  draw(plot); // the frame of the first figure stays
  const isShort = Math.max(...traces.map(trace => trace.x.length), 0) <= 16;
  const layout = {
    ...plot.layout, colorway: report.colors, showlegend: traces.length <= SHOWN_CURVES,
    yaxis: {...plot.layout.yaxis, title: {text: metric}, autorange: true},
    xaxis: {...plot.layout.xaxis, dtick: isShort ? 1 : undefined, autorange: true},
  };
  drawPlot(plot, traces, layout);
}

document.addEventListener("groups", event => {
  curveGroups = event.detail;
  if (curveGroups.length) drawGroups(curveGroups);
  if (metricChoice) drawCurves();
});
metricChoice?.addEventListener("change", drawCurves);
