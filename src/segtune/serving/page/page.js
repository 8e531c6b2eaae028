"use strict";
// One image or clip at a time: sent to the server, drawn with its regions on a canvas.

const $ = (id) => document.getElementById(id);
const state = { file: null, bitmap: null, regions: [], owner: null, hidden: new Set(), chosen: -1, classes: [] };

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (response.ok) return response;
  $("token-form").hidden = response.status !== 401;
  const text = await response.text();
  let message = text;
  try { message = JSON.parse(text).error || text; } catch { /* no JSON: the text itself */ }
  throw new Error(`${response.status}: ${message}`);
}

function say(text, isFault = false) {
  $("status").textContent = text;
  $("status").classList.toggle("fault", isFault);
}

// COCO's compressed run lengths -> owner[pixel] = number of the region, for its pixels
function fill(owner, rle, number) {
  const [height, width] = rle.size;
  const counts = [];
  for (let at = 0; at < rle.counts.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = rle.counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
      more = (code & 32) !== 0;
      if (!more && code & 16) value |= -1 << shift;
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  let pixel = 0;
  counts.forEach((count, index) => {
    if (index % 2) {
      for (let k = pixel; k < pixel + count; k++) owner[(k % height) * width + Math.floor(k / height)] = number;
    }
    pixel += count;
  });
}

function draw() {
  const canvas = $("canvas"), { bitmap, owner, regions } = state;
  if (!bitmap) return;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height), data = picture.data;
  const opacity = $("opacity").value / 100;
  const colors = regions.map((r) => (state.hidden.has(r.concept.id) ? null : state.classes[r.concept.id].color));
  for (let pixel = 0; pixel < owner.length; pixel++) {
    const number = owner[pixel], color = number < 0 ? null : colors[number];
    if (!color) continue;
    const share = state.chosen < 0 || state.chosen === number ? opacity : opacity / 4;
    for (let c = 0; c < 3; c++) data[4 * pixel + c] += (color[c] - data[4 * pixel + c]) * share;
  }
  context.putImageData(picture, 0, 0);
}

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
function describe(region) {
  const labels = (region.finer || []).map((f) => `${f.name} ${percent(f.confidence)}`);
  return `${[region.concept.name, ...labels].join(", ")}: confidence ${percent(region.mean_confidence)}, ` +
    `${percent(region.area_share)} of the image`;
}

function swatch(color) {
  const box = document.createElement("span");
  box.className = "swatch";
  box.style.background = `rgb(${color.join(",")})`;
  return box;
}

function listClasses() {
  $("classes").replaceChildren(...state.classes.map((row, id) => {
    const item = document.createElement("li"), label = document.createElement("label");
    const box = document.createElement("input"), share = document.createElement("span");
    box.type = "checkbox";
    box.checked = !state.hidden.has(id);
    box.addEventListener("change", () => {
      box.checked ? state.hidden.delete(id) : state.hidden.add(id);
      draw();
    });
    const area = state.regions.filter((r) => r.concept.id === id).reduce((sum, r) => sum + r.area_share, 0);
    share.className = "share";
    share.textContent = state.regions.length ? percent(area) : "";
    label.append(box, swatch(row.color), row.name, share);
    item.append(label);
    return item;
  }));
}

function listRegions() {
  $("regions").replaceChildren(...state.regions.map((region, number) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(state.chosen === number));
    button.append(swatch(state.classes[region.concept.id].color), describe(region));
    button.addEventListener("click", () => choose(state.chosen === number ? -1 : number));
    item.append(button);
    return item;
  }));
}

function choose(number) {
  state.chosen = number;
  $("under").textContent = number < 0 ? "\u00a0" : describe(state.regions[number]);
  [...$("regions").querySelectorAll("button")].forEach((button, index) =>
    button.setAttribute("aria-pressed", String(index === number)));
  draw();
}

function regionAt(event) {
  const canvas = $("canvas"), box = canvas.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * canvas.width);
  const y = Math.floor((event.clientY - box.top) / box.height * canvas.height);
  return state.owner ? state.owner[y * canvas.width + x] ?? -1 : -1;
}

async function segment() {
  const file = state.file, split = $("components").checked ? "components" : "concept";
  say("segmenting …");
  const response = await ask(`/v1/segment?formats=rle&regions=${split}`, { method: "POST", body: file });
  const [row] = (await response.json()).images;
  if (file !== state.file) return; // another file was chosen meanwhile
  const canvas = $("canvas");
  [canvas.width, canvas.height] = [row.width, row.height];
  state.bitmap = await createImageBitmap(file);
  state.regions = row.regions;
  state.owner = new Int32Array(row.width * row.height).fill(-1);
  row.regions.forEach((region, number) => fill(state.owner, region.rle, number));
  canvas.hidden = false;
  $("video").hidden = true;
  $("downloads").hidden = false;
  say(`${file.name || "image"}: ${row.width} x ${row.height} pixels, ${row.regions.length} regions`);
  listClasses();
  listRegions();
  choose(-1);
}

async function segmentClip() {
  const file = state.file, bar = $("progress");
  say("sending the clip …");
  const query = `name=${encodeURIComponent(file.name || "clip.mp4")}&formats=overlays`;
  const response = await ask(`/v1/jobs?${query}`, { method: "POST", body: file });
  let job = await response.json();
  bar.hidden = false;
  while (file === state.file && (job.state === "queued" || job.state === "running")) {
    bar.value = job.total ? job.done / job.total : 0;
    say(`${job.state}: ${job.done} of ${job.total || "?"} frames`);
    await new Promise((resolve) => setTimeout(resolve, 700));
    job = await (await ask(`/v1/jobs/${job.id}`)).json();
  }
  bar.hidden = true;
  if (file !== state.file) return;
  if (job.state === "failed") throw new Error(job.fault);
  const overlay = job.files.find((name) => name.startsWith("overlays/"));
  const video = await (await ask(`/v1/jobs/${job.id}/files/${overlay}`)).blob();
  $("video").src = URL.createObjectURL(video);
  $("video").hidden = false;
  $("canvas").hidden = true;
  $("downloads").hidden = true;
  say(`${file.name || "clip"}: ${job.done} frames`);
}

async function take(file) {
  if (!file) return;
  state.file = file;
  try {
    await (file.type.startsWith("video/") ? segmentClip() : segment());
  } catch (error) {
    say(error.message, true);
  }
}

async function download(format) {
  try {
    const split = $("components").checked ? "components" : "concept";
    const options = { method: "POST", body: state.file };
    const blob = await (await ask(`/v1/segment?formats=${format}&regions=${split}`, options)).blob();
    const link = document.createElement("a");
    const suffix = { masks: "png", regions: "json", overlays: "jpg" }[format];
    link.href = URL.createObjectURL(blob);
    link.download = `${(state.file.name || "image").replace(/\.[^.]*$/, "")}_${format}.${suffix}`;
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    say(error.message, true);
  }
}

async function start() {
  try {
    const [model] = (await (await ask("/v1/models")).json()).models;
    state.classes = model.classes;
    const miou = model.metrics["val/miou"];
    $("model").textContent = `${model.version}${miou === undefined ? "" : `, val mIoU ${percent(miou)}`}`;
    const facts = { Template: model.template, Dataset: model.dataset, "Image size": model.image_size.join(" x "),
      Engine: `${model.engine} on ${model.device}`, ...model.metrics };
    $("about").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = name;
      text.textContent = typeof value === "number" ? value.toFixed(4) : String(value ?? "unknown");
      return [term, text];
    }));
    listClasses();
  } catch (error) {
    $("model").textContent = "";
    say(error.message, true);
  }
}

$("file").addEventListener("change", (event) => take(event.target.files[0]));
$("opacity").addEventListener("input", () => {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  draw();
});
$("components").addEventListener("change", () => state.bitmap && take(state.file));
$("downloads").addEventListener("click", (event) => event.target.dataset.format && download(event.target.dataset.format));
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token-form").hidden = true;
  start();
});
$("canvas").addEventListener("mousemove", (event) => {
  const number = regionAt(event);
  if (state.chosen < 0) $("under").textContent = number < 0 ? "\u00a0" : describe(state.regions[number]);
});
$("canvas").addEventListener("click", (event) => choose(regionAt(event)));
addEventListener("paste", (event) => take(event.clipboardData.files[0]));
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
start();
