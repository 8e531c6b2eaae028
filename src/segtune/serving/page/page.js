"use strict";
// One image or clip at a time: sent to the server, drawn with its regions on a canvas.

const $ = (id) => document.getElementById(id);
const state = {
  file: null, bitmap: null, regions: [], owner: null, hidden: new Set(), chosen: -1, classes: [],
  clip: null, // of a clip: format -> its file
  drawing: false,
};

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
  if (state.drawing) return;
  state.drawing = true; // at most once for each frame of the screen
  requestAnimationFrame(() => {
    state.drawing = false;
    drawNow();
  });
}

function drawNow() {
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
  $("no-regions").hidden = state.regions.length > 0;
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
  $("canvas").dataset.chosen = number;
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
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`this browser shows no ${file.type || "such"} file; the server segments it (POST /v1/segment)`);
  });
  if (file !== state.file) return; // another file was chosen meanwhile
  const canvas = $("canvas");
  [canvas.width, canvas.height] = [row.width, row.height];
  // so high that the line under it stays in the window
  canvas.style.maxWidth = `calc(max(20rem, 100vh - 16rem) * ${row.width / row.height})`;
  state.bitmap = bitmap;
  state.regions = row.regions;
  state.owner = new Int32Array(row.width * row.height).fill(-1);
  row.regions.forEach((region, number) => fill(state.owner, region.rle, number));
  canvas.hidden = false;
  $("video").hidden = true;
  state.clip = null;
  listDownloads();
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
  const { id } = await response.json();
  bar.hidden = false;
  try {
    const job = await finished(id, file);
    if (file !== state.file) return;
    if (job.state === "failed") throw new Error(job.fault);
    const clip = {};
    for (const format of ["overlays", "regions"]) {
      const name = job.files.find((path) => path.startsWith(`${format}/`));
      clip[format] = await (await ask(`/v1/jobs/${id}/files/${name}`)).blob();
    }
    if (file === state.file) showClip(clip, job.done);
  } finally {
    bar.hidden = true;
    await ask(`/v1/jobs/${id}`, { method: "DELETE" }); // all of it is here now, or not wanted
  }
}

// The job when it has ended, or when another file is chosen.
async function finished(id, file) {
  for (;;) {
    const job = await (await ask(`/v1/jobs/${id}`)).json();
    if (file !== state.file || (job.state !== "queued" && job.state !== "running")) return job;
    $("progress").value = job.total ? job.done / job.total : 0;
    say(`${job.state}: ${job.done} of ${job.total || "?"} frames`);
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

function showClip(clip, frames) {
  URL.revokeObjectURL($("video").src);
  $("video").src = URL.createObjectURL(clip.overlays);
  $("video").hidden = false;
  $("canvas").hidden = true;
  Object.assign(state, { clip, bitmap: null, owner: null, regions: [] });
  listDownloads();
  listClasses();
  listRegions();
  $("under").textContent = "\u00a0";
  say(`${state.file.name || "clip"}: ${frames} frames`);
}

function listDownloads() {
  $("downloads").hidden = false;
  for (const button of $("downloads").querySelectorAll("button")) {
    button.hidden = state.clip !== null && !(button.dataset.format in state.clip);
  }
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
    const options = { method: "POST", body: state.file }, path = `/v1/segment?formats=${format}&regions=${split}`;
    const blob = state.clip ? state.clip[format] : await (await ask(path, options)).blob();
    const link = document.createElement("a");
    const suffixes = state.clip ? { regions: "jsonl", overlays: "mp4" } : { masks: "png", regions: "json", overlays: "jpg" };
    const suffix = suffixes[format];
    link.href = URL.createObjectURL(blob);
    link.download = `${(state.file.name || "image").replace(/\.[^.]*$/, "")}_${format}.${suffix}`;
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    say(error.message, true);
  }
}

// mIoU with its interval, where the server knows the run; else that of the model's folder
function words(model) {
  const { split, miou, low, high } = model.quality;
  if (miou === undefined) {
    const own = model.metrics["val/miou"];
    return own === undefined ? [] : [`val mIoU ${percent(own)}`];
  }
  return [`${split} mIoU ${percent(miou)} (${percent(low)} to ${percent(high)}, 95\u00a0% interval)`];
}

async function start() {
  try {
    const [model] = (await (await ask("/v1/models")).json()).models;
    state.classes = model.classes;
    const quality = words(model);
    $("model").textContent = [model.version, ...quality].join(", ");
    const facts = { Version: model.version, Quality: quality.join(" ") || "unknown", Template: model.template, Dataset: model.dataset, "Image size": model.image_size.join(" x "),
      Engine: `${model.engine} on ${model.device}`, ...model.metrics };
    $("about").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = name;
      text.textContent = typeof value === "number" ? value.toFixed(4) : String(value ?? "unknown");
      return [term, text];
    }));
    listClasses();
    if ($("status").classList.contains("fault")) say(""); // the token was missing
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
