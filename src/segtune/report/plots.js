/* Draw the figures: the visible ones first, the others while the browser is idle, all before print. */
"use strict";

const waiting = new Set(document.querySelectorAll(".plot[data-figure]"));

/* The element is as high as its figure: when the window changes, Plotly takes the element's height. */
function drawPlot(plot, data, layout) {
  if (layout.height) plot.style.height = `${layout.height}px`;
  Plotly.react(plot, data, {...layout, autosize: true}, {responsive: true, displaylogo: false});
}

function draw(plot) {
  if (!waiting.delete(plot)) return;
  const figure = JSON.parse(document.getElementById(`${plot.id}-data`).textContent);
  drawPlot(plot, figure.data, figure.layout);
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
