/* The table of candidates: the reader chooses columns, and groups runs by any parameters. */
"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const candidates = document.getElementById("candidates");

/* ---- columns ---- */
const hiddenColumns = document.head.appendChild(document.createElement("style"));

function hideColumns() {
  const boxes = [...document.querySelectorAll("#columns input")];
  hiddenColumns.textContent = boxes.filter(box => !box.checked)
    .map(box => `#candidates tr > :nth-child(${Number(box.value) + 1}) { display: none; }`).join("\n");
}

function checkbox(text, value, isChecked, onChange) {
  const label = document.createElement("label"), box = document.createElement("input");
  Object.assign(box, {type: "checkbox", value, checked: isChecked});
  box.addEventListener("change", onChange);
  label.append(box, text);
  return label;
}

[...candidates.tHead.rows[0].cells].slice(1).forEach((heading, number) => {
  document.getElementById("columns").append(
    checkbox(heading.textContent, number + 1, !heading.hasAttribute("data-hidden"), hideColumns));
});
hideColumns();

/* ---- groups ---- */
const SHOWN_GROUPS = 40; // in the figure

/* Return mean, standard deviation, standard error and number of the values that are numbers. */
function summary(values) {
  const numbers = values.filter(value => value !== null && value !== undefined);
  const n = numbers.length;
  if (!n) return {n, mean: null, deviation: null, error: null};
  const mean = numbers.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return {n, mean, deviation: null, error: null};
  const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = Math.sqrt(squares / (n - 1));
  return {n, mean, deviation, error: deviation / Math.sqrt(n)};
}

function groupKeys() {
  return [...document.querySelectorAll("#group-keys input:checked")].map(box => box.value);
}

/* Return {label, values, runs} of each group, in the order of the best mean mIoU. */
function groupedRuns(keys) {
  const groups = new Map();
  for (const run of report.runs) {
    const values = keys.map(key => run.params[key] ?? "–");
    const label = keys.map((key, index) => `${key.replace(/^hp\./, "")}=${shortValue(values[index])}`).join(", ");
    const id = JSON.stringify(values);
    if (!groups.has(id)) groups.set(id, {label, values, runs: []});
    groups.get(id).runs.push(run);
  }
  const meanOf = group => summary(group.runs.map(run => run.figures.mIoU)).mean;
  return [...groups.values()].sort((a, b) => meanOf(b) - meanOf(a));
}

function shortValue(value) {
  const number = Number(value);
  return value === "" || Number.isNaN(number) || Number.isInteger(number) ? value : String(Number(number.toPrecision(3)));
}

function uncertainty(figure) {
  if (figure.error === null) return "";
  const kind = document.getElementById("group-spread").value;
  return ` ± ${figure[kind].toFixed(2)}`;
}

function showGroups() {
  const keys = groupKeys(), box = document.getElementById("groups-box");
  box.hidden = !keys.length;
  const groups = keys.length ? groupedRuns(keys) : [];
  if (keys.length) fillGroups(keys, groups);
  document.dispatchEvent(new CustomEvent("groups", {detail: groups}));
}

function fillGroups(keys, groups) {
  const names = Object.keys(report.runs[0].figures);
  const table = document.createElement("table");
  table.id = "groups";
  const head = table.createTHead().insertRow();
  for (const title of [...keys, "runs", ...names]) {
    head.append(Object.assign(document.createElement("th"), {textContent: title}));
  }
  const body = table.createTBody();
  for (const group of groups) {
    const row = body.insertRow();
    group.values.forEach(value => { row.insertCell().textContent = shortValue(value); });
    row.insertCell().textContent = group.runs.length;
    for (const name of names) {
      const figure = summary(group.runs.map(run => run.figures[name])), cell = row.insertCell();
      cell.textContent = figure.mean === null ? "–" : figure.mean.toFixed(1) + uncertainty(figure);
      if (figure.mean !== null) cell.dataset.value = figure.mean;
    }
  }
  makeSortable(table);
  document.getElementById("groups-table").replaceChildren(table);
}

/* The mean of each group with error bars; a group of one run has none. */
function drawGroups(groups) {
  const spread = document.getElementById("group-spread").value;
  const shown = groups.slice(0, SHOWN_GROUPS).reverse();
  const figures = shown.map(group => summary(group.runs.map(run => run.figures.mIoU)));
  const trace = {
    type: "scatter", mode: "markers", marker: {size: 9, color: "#2266aa"},
    x: figures.map(figure => figure.mean),
    y: shown.map((group, index) => escapeText(`${group.label} (n=${figures[index].n})`)),
    error_x: {array: figures.map(figure => figure[spread] ?? 0), color: "#8593a5"},
  };
  const layout = {
    height: 120 + 26 * shown.length, margin: {l: 60, r: 20, t: 20, b: 50},
    xaxis: {title: {text: "mean mIoU (points)"}, automargin: true}, yaxis: {automargin: true, dtick: 1},
    font: {family: "system-ui, sans-serif", size: 13}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    modebar: {bgcolor: "rgba(0,0,0,0)", color: "#8593a5", activecolor: "#2266aa"},
  };
  drawPlot(document.getElementById("groups-plot"), [trace], layout);
}

/* Plotly reads markup in labels. */
function escapeText(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

if (report.runs.length > 1) {
  const keyBox = document.getElementById("group-keys");
  for (const key of report.keys) keyBox.append(checkbox(key, key, false, showGroups));
  document.getElementById("group-all").addEventListener("click", () => {
    keyBox.querySelectorAll("input").forEach(box => { box.checked = box.value !== "seed"; });
    showGroups();
  });
  document.getElementById("group-none").addEventListener("click", () => {
    keyBox.querySelectorAll("input").forEach(box => { box.checked = false; });
    showGroups();
  });
  document.getElementById("group-spread").addEventListener("change", showGroups);
}

const settingsButton = document.getElementById("settings-all");
settingsButton?.addEventListener("click", () => {
  const isAll = document.getElementById("settings").classList.toggle("all");
  settingsButton.setAttribute("aria-pressed", String(isAll));
});
