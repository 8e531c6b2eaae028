/* The image browser: image, truth, predictions and errors, drawn from masks of class ids. */
"use strict";

const browser = JSON.parse(document.getElementById("images-data").textContent);
const ERROR = [214, 39, 40], IGNORED = 255;
const masks = new Map(); // data URI -> promise of {ids, width, height}
const hiddenClasses = new Set();
let confusion = null; // [true id, predicted id], whose pixels alone are marked as errors

/* ---- masks ---- */
async function loadPicture(uri) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  return picture;
}

function loadMask(uri) {
  if (!masks.has(uri)) {
    masks.set(uri, loadPicture(uri).then(picture => {
      const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
      const context = canvas.getContext("2d", {willReadFrequently: true});
      context.drawImage(picture, 0, 0);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
      const ids = new Uint8Array(pixels.length / 4);
      for (let n = 0; n < ids.length; n++) ids[n] = pixels[4 * n];
      return {ids, width: canvas.width, height: canvas.height};
    }));
  }
  return masks.get(uri);
}

/* ---- drawing ---- */
const control = id => document.getElementById(id);

function colors() {
  const key = control("image-colors").value;
  return browser.classes.map(entry => entry[key]);
}

async function drawView(canvas, view, image) {
  const picture = await loadPicture(image.image);
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  if (view.kind === "image") return;
  const truth = await loadMask(image.truth);
  const prediction = view.mask ? await loadMask(view.mask) : truth;
  const shown = context.getImageData(0, 0, canvas.width, canvas.height);
  const opacity = Number(control("image-opacity").value) / 100;
  if (view.kind === "errors") paintErrors(shown.data, truth.ids, prediction.ids);
  else paintClasses(shown.data, prediction.ids, opacity, colors());
  context.putImageData(shown, 0, 0);
}

function paintClasses(data, ids, opacity, palette) {
  ids.forEach((id, n) => {
    if (id === IGNORED || hiddenClasses.has(id) || !palette[id]) return;
    for (let c = 0; c < 3; c++) data[4 * n + c] += opacity * (palette[id][c] - data[4 * n + c]);
  });
}

/* Errors are red on a pale image; ignored pixels and hidden classes show none. */
function paintErrors(data, truth, prediction) {
  truth.forEach((id, n) => {
    const isConfusion = !confusion || (id === confusion[0] && prediction[n] === confusion[1]);
    const isWrong = id !== IGNORED && id !== prediction[n] && isConfusion && !hiddenClasses.has(id);
    for (let c = 0; c < 3; c++) {
      data[4 * n + c] = isWrong ? ERROR[c] : 255 - 0.35 * (255 - data[4 * n + c]);
    }
  });
}

function chosenCandidates() {
  return [...document.querySelectorAll("#image-candidates input:checked")].map(box => box.value);
}

/* Return the views of an image: image, truth, each chosen prediction and its errors. */
function viewsOf(image) {
  const views = [{kind: "image", title: "image"}, {kind: "truth", title: "truth"}];
  for (const name of chosenCandidates()) {
    const mask = image.predictions[name];
    if (!mask) continue;
    const miou = (100 * image.mious[name]).toFixed(1);
    views.push({kind: "prediction", mask, title: `${name} (mIoU ${miou})`});
    views.push({kind: "errors", mask, title: `errors of ${name}`});
  }
  return views;
}

function viewElements(image) {
  return viewsOf(image).map(view => {
    const box = document.createElement("div"), canvas = document.createElement("canvas");
    const title = document.createElement("span");
    box.className = "view";
    [canvas.width, canvas.height] = image.size; // the place that the picture takes
    title.textContent = view.title;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${image.name}: ${view.title}`);
    box.append(title, canvas);
    drawView(canvas, view, image);
    return box;
  });
}

/* ---- gallery ---- */
function matching() {
  const kind = control("image-kind").value, order = control("image-order").value;
  const names = confusion ? confusedNames() : null;
  let images = browser.images.filter(image => names ? names.includes(image.name) : kind === "all" || image.words[kind]);
  const [best] = browser.candidates;
  const gap = image => Math.abs(image.mious[best] - (image.mious[browser.other] ?? image.mious[best]));
  const keys = {
    worst: image => image.mious[best], best: image => -image.mious[best], disagreement: image => -gap(image),
    name: null,
  };
  const key = keys[order];
  if (names && order === "worst") return images.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
  return images.sort((a, b) => key ? key(a) - key(b) : a.name.localeCompare(b.name, undefined, {numeric: true}));
}

function figureOf(image) {
  const figure = document.createElement("figure"), views = document.createElement("button");
  const caption = document.createElement("figcaption");
  views.type = "button";
  views.className = "views";
  const purpose = document.createElement("span");
  purpose.className = "hidden-text";
  purpose.textContent = `Enlarge ${image.name}: `;
  views.append(purpose, ...viewElements(image));
  views.addEventListener("click", () => openViewer(image));
  caption.textContent = `${image.name}: ${Object.values(image.words).join("; ")}`;
  figure.append(views, caption);
  return figure;
}

function showImages() {
  const images = matching();
  control("gallery").replaceChildren(...images.map(figureOf));
  control("image-count").textContent = `${images.length} of ${browser.images.length} images`;
  if (viewer.open && viewed) openViewer(viewed);
}

/* ---- viewer: all views of one image, with a common zoom ---- */
const viewer = control("viewer"), stage = control("viewer-views");
let viewed = null, zoom = 1, place = [0, 0]; // place: shift in shares of a view

function openViewer(image) {
  if (viewed !== image) [zoom, place] = [1, [0, 0]];
  viewed = image;
  control("viewer-title").textContent = `${image.name}: ${Object.values(image.words).join("; ")}`;
  stage.replaceChildren(...viewElements(image));
  stage.querySelectorAll("canvas").forEach(canvas => {
    const frame = document.createElement("div");
    frame.className = "frame";
    canvas.replaceWith(frame);
    frame.append(canvas);
  });
  moveViews();
  if (!viewer.open) viewer.showModal();
}

function moveViews() {
  const most = (zoom - 1) / 2;
  place = place.map(share => Math.min(most, Math.max(-most, share)));
  const [x, y] = place.map(share => `${100 * share}%`);
  stage.querySelectorAll("canvas").forEach(canvas => {
    canvas.style.transform = `translate(${x}, ${y}) scale(${zoom})`;
  });
  control("viewer-zoom").textContent = `${zoom.toFixed(1)} x`;
}

function zoomBy(factor) {
  const before = zoom;
  zoom = Math.min(16, Math.max(1, zoom * factor));
  place = place.map(share => share * zoom / before);
  moveViews();
}

function panBy(x, y) {
  place = [place[0] + x, place[1] + y];
  moveViews();
}

function step(direction) {
  const images = matching(), index = images.indexOf(viewed);
  openViewer(images[(index + direction + images.length) % images.length]);
}

async function describePixel(event) {
  const canvas = event.target.closest("canvas");
  if (!canvas || !viewed) return;
  const {left, top, width, height} = canvas.getBoundingClientRect(), image = viewed;
  const truth = await loadMask(image.truth);
  const x = Math.floor((event.clientX - left) / width * truth.width);
  const y = Math.floor((event.clientY - top) / height * truth.height);
  const name = mask => browser.classes[mask.ids[y * mask.width + x]]?.name ?? "ignored";
  const words = [`truth: ${name(truth)}`];
  for (const candidate of chosenCandidates()) {
    if (image.predictions[candidate]) words.push(`${candidate}: ${name(await loadMask(image.predictions[candidate]))}`);
  }
  control("viewer-pixel").textContent = words.join(" · ");
}

stage.addEventListener("wheel", event => {
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
}, {passive: false});
stage.addEventListener("pointermove", event => {
  if (event.buttons) {
    const {width, height} = event.target.closest(".frame")?.getBoundingClientRect() ?? {};
    if (width) panBy(event.movementX / width, event.movementY / height);
  }
  describePixel(event);
});
viewer.addEventListener("keydown", event => {
  const actions = {
    "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8),
    0: () => { [zoom, place] = [1, [0, 0]]; moveViews(); },
    ArrowLeft: () => panBy(0.1, 0), ArrowRight: () => panBy(-0.1, 0),
    ArrowUp: () => panBy(0, 0.1), ArrowDown: () => panBy(0, -0.1),
    PageDown: () => step(1), PageUp: () => step(-1),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});
const onClick = (id, action) => control(id).addEventListener("click", action);
onClick("viewer-in", () => zoomBy(1.5));
onClick("viewer-out", () => zoomBy(1 / 1.5));
onClick("viewer-next", () => step(1));
onClick("viewer-before", () => step(-1));
onClick("viewer-close", () => viewer.close());

/* ---- classes: the legend shows and hides them ---- */
function paintLegend() {
  const palette = colors();
  document.querySelectorAll("#image-classes button").forEach((button, id) => {
    button.setAttribute("aria-pressed", String(!hiddenClasses.has(id)));
    button.firstChild.style.background = `rgb(${palette[id].join(",")})`;
  });
}

browser.classes.forEach((entry, id) => {
  const button = document.createElement("button"), swatch = document.createElement("span");
  button.type = "button";
  swatch.className = "swatch";
  button.append(swatch, entry.name);
  button.addEventListener("click", () => {
    if (!hiddenClasses.delete(id)) hiddenClasses.add(id);
    paintLegend();
    showImages();
  });
  control("image-classes").append(button);
});
onClick("classes-all", () => { hiddenClasses.clear(); paintLegend(); showImages(); });
onClick("classes-none", () => {
  browser.classes.forEach((entry, id) => hiddenClasses.add(id));
  paintLegend();
  showImages();
});
control("image-colors").addEventListener("change", () => { paintLegend(); showImages(); });
for (const id of ["image-kind", "image-order", "image-opacity"]) control(id).addEventListener("change", showImages);
browser.candidates.forEach((name, index) => {
  const isShown = index === 0 || name === browser.other;
  control("image-candidates").append(checkbox(name, name, isShown, showImages));
});
