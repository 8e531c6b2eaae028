/* Draw the figures: the visible ones first, the others while the browser is idle, all before print. */
"use strict";

const waiting = new Set(document.querySelectorAll(".plot[data-figure]"));

function draw(plot) {
  if (!waiting.delete(plot)) return;
  const figure = JSON.parse(document.getElementById(`${plot.id}-data`).textContent);
  const options = {responsive: true, displaylogo: false};
  Plotly.newPlot(plot, figure.data, {...figure.layout, autosize: true}, options);
  plot.dispatchEvent(new CustomEvent("drawn", {bubbles: true}));
}

function drawNext() {
  const [plot] = waiting;
  if (!plot) return;
  draw(plot);
  setTimeout(drawNext, 30);
}

const seen = new IntersectionObserver(entries => {
  entries.filter(entry => entry.isIntersecting).forEach(entry => draw(entry.target));
}, {rootMargin: "200px"});
waiting.forEach(plot => seen.observe(plot));
addEventListener("load", () => setTimeout(drawNext, 300));
addEventListener("beforeprint", () => [...waiting].forEach(draw));
