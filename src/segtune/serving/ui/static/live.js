// The page of a sweep: takes the events of the server, and draws the learning curves.
"use strict";

const COLORS = document.getElementById("curves").dataset.colors.split(" ");
const LEFT = 52, RIGHT = 12, TOP = 10, BOTTOM = 34;
const figures = document.getElementById("figures");
const svg = document.getElementById("curves");
const curves = new Map();
let ended = -1, best = null;

const colorOf = number => COLORS[number % COLORS.length];

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low || 1) / count));
  const size = [1, 2, 5, 10].map(n => n * step).find(n => (high - low) / n <= count) || step;
  const values = [];
  for (let n = Math.ceil(low / size); n * size <= high + 1e-9; n++) values.push(n * size);
  return values;
}

function drawCurves() {
  const lines = [...curves.values()].filter(line => line.curve.length);
  if (!lines.length) return;
  const width = svg.clientWidth, height = svg.clientHeight;
  const values = lines.flatMap(line => line.curve.map(([, value]) => value));
  const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
  const last = Math.max(...lines.map(line => line.curve.at(-1)[0] + 1), 2);
  const x = epoch => LEFT + (epoch - 1) / (last - 1) * (width - LEFT - RIGHT);
  const y = value => TOP + (high - value) / span * (height - TOP - BOTTOM);
  const parts = [];
  for (const value of ticks(low, high, 5)) {
    parts.push(element("line", { class: "level", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, +value.toFixed(6)));
  }
  for (const epoch of ticks(1, last, 8).filter(Number.isInteger)) {
    parts.push(element("text", { x: x(epoch), y: height - BOTTOM + 16, "text-anchor": "middle" }, epoch));
  }
  parts.push(element("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, `epoch; lines show ${svg.dataset.label}`));
  for (const { number, state, curve } of lines) {
    const points = curve.map(([epoch, value]) => `${x(epoch + 1).toFixed(1)},${y(value).toFixed(1)}`);
    parts.push(element("polyline", { points: points.join(" "), stroke: colorOf(number), class: state, "data-trial": number }));
    const [cx, cy] = points.at(-1).split(",");
    parts.push(element("circle", { cx, cy, r: state === "running" ? 5 : 3, fill: colorOf(number) }));
  }
  svg.replaceChildren(...parts);
  const running = lines.filter(line => line.state === "running").length;
  const words = `${lines.length} trials, ${running} of them running (large dots); dotted lines were pruned.`;
  document.getElementById("curves-words").textContent = words + (best ? ` Best so far: trial ${best.trial}.` : "");
}

function place(id, text) {
  const box = document.createElement("template");
  box.innerHTML = text.trim();
  const made = box.content.firstElementChild;
  const old = document.getElementById(id);
  const hadFocus = old && old.contains(document.activeElement);
  if (old) old.replaceWith(made);
  else document.querySelector("#trials tbody").append(made);
  if (hadFocus) made.querySelector("a")?.focus({ preventScroll: true });
  if (made.matches("table")) makeSortable(made);
  return made;
}

function colorRows() {
  for (const row of document.querySelectorAll("#trials tr[data-trial]")) {
    row.querySelector(".swatch").style.background = colorOf(+row.dataset.trial);
    row.classList.toggle("best", best !== null && +row.dataset.trial === best.trial);
  }
}

// The figures and the front hold the trials that have ended.
async function drawOthers() {
  const [drawn, front] = await Promise.all([fetch(figures.dataset.figures), fetch(figures.dataset.front)]);
  if (front.ok) place("front", await front.text());
  if (drawn.ok) drawFigures(figures, await drawn.json());
}

function take(change) {
  if (change.is_whole) curves.clear();
  for (const [id, text] of Object.entries(change.parts)) place(id, text);
  for (const line of change.curves) curves.set(line.number, line);
  best = change.best;
  colorRows();
  drawCurves();
  if (change.ended !== ended) {
    ended = change.ended;
    drawOthers();
  }
  document.documentElement.dataset.updated = Date.now();
}

function light(number, isOn) {
  for (const made of document.querySelectorAll(`polyline[data-trial="${number}"], #trials tr[data-trial="${number}"]`)) {
    made.classList.toggle("lit", isOn);
  }
}

for (const [event, isOn] of [["mouseover", true], ["mouseout", false], ["focusin", true], ["focusout", false]]) {
  document.addEventListener(event, ({ target }) => {
    const near = target.closest("[data-trial]");
    if (near) light(near.dataset.trial, isOn);
  });
}

function follow() {
  const source = new EventSource(figures.dataset.events);
  const connection = document.getElementById("connection");
  source.addEventListener("change", ({ data }) => take(JSON.parse(data)));
  source.addEventListener("open", () => { connection.textContent = "This page follows the sweep."; });
  source.addEventListener("error", () => {
    connection.textContent = "The server does not answer; this page tries again.";
    // a browser gives up after an answer that is an error
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

take(JSON.parse(document.getElementById("start").textContent));
new ResizeObserver(drawCurves).observe(svg);
follow();
