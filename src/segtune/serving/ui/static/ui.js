// Figures of the report, and the frame that holds a whole report.
"use strict";

// The library of the figures is large: a page works before it is there.
let plotly;
function loadPlotly() {
  plotly ??= new Promise(done => {
    const script = document.createElement("script");
    script.src = "/static/plotly.js";
    script.addEventListener("load", done);
    document.head.append(script);
  });
  return plotly;
}

// Draws figures into an element; the server made their data.
async function drawFigures(element, figures) {
  if (!figures.length) return;
  await loadPlotly();
  let next = null;
  for (const figure of [...figures].reverse()) { // a new one comes to its place among the old ones
    const id = `figure-${figure.id}`;
    if (!document.getElementById(id)) {
      const box = document.createElement("template");
      box.innerHTML = `<h2 id="${id}-title"></h2><figure id="${id}" aria-labelledby="${id}-title"
        aria-describedby="${id}-words"><div class="plot"></div><figcaption id="${id}-words"></figcaption></figure>`;
      element.insertBefore(box.content, next);
    }
    next = document.getElementById(`${id}-title`);
    next.textContent = figure.title;
    document.getElementById(`${id}-words`).textContent = figure.alternative;
    const { data, layout } = JSON.parse(figure.data);
    const plot = document.querySelector(`#${id} .plot`);
    // as high as its figure: when the window changes, Plotly takes the element's height
    if (layout.height) plot.style.height = `${layout.height}px`;
    Plotly.react(plot, data, { ...layout, autosize: true }, { responsive: true, displaylogo: false });
  }
}

// A frame is as high as the report in it.
for (const frame of document.querySelectorAll("iframe[data-fit]")) {
  const fit = () => {
    const body = frame.contentDocument.body;
    if (body) frame.style.height = `${body.scrollHeight + 40}px`;
  };
  frame.addEventListener("load", () => {
    fit();
    new ResizeObserver(fit).observe(frame.contentDocument.body);
  });
}

for (const element of document.querySelectorAll("[data-load-figures]")) {
  fetch(element.dataset.loadFigures).then(answer => answer.json()).then(figures => drawFigures(element, figures));
}
