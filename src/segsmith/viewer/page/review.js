// The page that reviews labels: goes through them, the least likely first, and says to the viewer what a person says.

import { Board } from "./board.js";
import { asked, askedJson, element, stateElement } from "./elements.js";
import { askedFolders, drawHeader, folderNumber, typing } from "./header.js";
import { Painting } from "./painting.js";
import { maskOf, runsOf } from "./runs.js";

const KEYS = [
  [["←", "→"], "previous, next label"],
  [["n"], "next label without a verdict"],
  [["a"], "accept the label"],
  [["p"], "take the prediction"],
  [["o"], "nothing of this class here"],
  [["x"], "leave the image out"],
  [["u"], "take the verdict back"],
  [["b", "e", "f", "m"], "brush, eraser, fill, move"],
  [["[", "]"], "smaller, larger brush"],
  [["z", "y"], "undo, redo"],
  [["s"], "save the painted mask"],
  [["c"], "paint by the keyboard: arrows move (with Shift by ten), Space paints, d draws while moving, Escape ends it"],
  [["+", "−", "0"], "zoom in, out, whole image"],
  [["1", "2", "3"], "show mask, label, prediction"],
  [["?"], "these keys"],
];
const SAID = { keep: "Label accepted", empty: "Nothing here", replace: "Replaced", "leave out": "Image left out" };
const SIZES = [1, 2, 3, 4, 5, 7, 9, 12, 16, 22, 30, 42, 60, 85, 120];

const by = (id) => document.getElementById(id);
const keyOf = (image, classId) => JSON.stringify([image, classId]);
const folder = folderNumber();
const api = `/api/runs/${folder}/review`;

let known; // of the run: classes, labels in their order, verdicts, ...
let verdicts; // keyOf -> verdict
let at = { image: null, classId: 0, place: -1 }; // what is shown; place -1: it is not ranked
let shown = null; // of its image, as the viewer told
let painting = null;
let masks = {}; // label and prediction
let began = ""; // run lengths of the mask that painting began with
let saying = false;
let drawing = false; // the keyboard's cursor paints as it moves

const board = new Board({
  begin,
  go: (from, to) => { if (board.tool !== "fill") painting.stroke(from, to, board.size, value); },
  end: () => { painting.end(); drawTools(); },
  cancel: () => { painting.cancel(); drawTools(); },
  zoomed: (scale) => { by("zoom").textContent = `${Math.round(scale * 100)} %`; },
});
let value = 1; // that the stroke sets

function begin(from, erase) {
  painting.begin();
  value = erase || board.tool === "eraser" ? 0 : 1;
  if (board.tool === "fill") painting.fill(Math.floor(from.x), Math.floor(from.y));
  else painting.stroke(from, from, board.size, value);
}

// which label

async function show(image, classId, { keepPainting = false } = {}) {
  const same = image === at.image && shown;
  const place = known.labels.findIndex(([id, ofClass]) => id === image && ofClass === classId);
  at = { image, classId, place };
  const query = new URLSearchParams({ folder, image, ...(known.classes.length > 1 && { class: known.classes[classId] }) });
  history.replaceState(null, "", `#${query}`);
  const about = at;
  if (!keepPainting) shown = painting = null; // nothing can be said of what is not shown yet
  busy(true);
  setCursor(false);
  drawPlace();
  let picture = board.picture;
  try {
    const [told, bitmap] = await Promise.all([askedJson(`${api}/image?${of(image)}`), same ? picture : pictureOf(image)]);
    if (about !== at) return; // another one was asked for since
    [shown, picture] = [told, bitmap];
  } catch (error) {
    if (about !== at) return;
    shown = painting = board.painting = null;
    masks = {};
    board.canvas.draw();
    busy(false);
    return tell(error.message, true);
  }
  const [height, width] = shown.hw;
  const label = shown.labels[classId];
  masks = {
    label: maskOf(label.label, height, width),
    prediction: label.prediction === null ? null : maskOf(label.prediction, height, width),
  };
  if (!keepPainting) {
    began = label.verdict === "replace" ? label.runs : label.verdict === "empty" ? "" : label.label;
    painting = new Painting(maskOf(began, height, width), height, width, (...box) => board.changed(...box));
    board.show(picture, painting, maskOf(shown.ignored, height, width));
    if (!same) board.canvas.show(null);
  }
  board.outline(masks);
  busy(false);
  drawLabel();
  drawTools();
  ahead(place + 1);
}

function busy(loading) {
  board.busy = loading;
  by("sides").setAttribute("aria-busy", String(loading));
}

const of = (image) => new URLSearchParams({ id: image });
const pictureOf = async (image) => createImageBitmap(await (await asked(`${api}/picture?${of(image)}`)).blob());

function ahead(place) {
  if (known.labels[place] && known.labels[place][0] !== at.image) {
    asked(`${api}/picture?${of(known.labels[place][0])}`).catch(() => {}); // it will be asked for again, and told then
  }
}

async function go(place) {
  const label = known.labels[place];
  if (label && (await settled())) await show(label[0], label[1]);
}

const judged = ([image, classId]) => verdicts.has(keyOf(image, classId)) || verdicts.has(keyOf(image, null));

function nextOpen() {
  const order = [...known.labels.keys()];
  const place = [...order.slice(at.place + 1), ...order.slice(0, at.place + 1)].find((one) => !judged(known.labels[one]));
  if (place === undefined) tell(known.labels.length ? "Every label has a verdict." : "Nothing is ranked.");
  else go(place);
}

// what is said of it

const painted = () => painting && runsOf(painting.mask, ...shown.hw);

/** Whether what was painted is saved, or not to be: asks where it is neither. */
async function settled() {
  if (!painting || !painting.done.length || painted() === began) return true;
  const choice = await ask("Save the painted mask?", `It is not saved yet: ${at.image}`, { save: "Save", drop: "Drop it", stay: "Stay here" });
  if (choice === "save") return say(painted() ? "replace" : "empty", painted(), { stay: true });
  return choice === "drop";
}

/** Say a verdict; null takes it back. Whether the viewer took it. */
async function say(verdict, runs = "", { stay = false } = {}) {
  if (!shown || saying) return false;
  saying = true;
  const ofImage = verdict === "leave out" || (verdict === null && shown.left_out);
  const { image, classId, place } = at;
  const body = { image, class_id: ofImage ? null : classId, verdict, runs: verdict === "replace" ? runs : "", version: shown.version };
  try {
    shown = await askedJson(`${api}/verdict`, { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  } catch (error) {
    tell(error.message, true);
    await look(); // someone else may have said more
    await show(image, classId, { keepPainting: true });
    return false;
  } finally {
    saying = false;
  }
  shown.labels.forEach((label, number) => note(image, number, label.verdict));
  note(image, null, shown.left_out ? "leave out" : null);
  known.all_put = false;
  if (verdict === "replace" || verdict === "empty") [began, painting.done] = [painted(), []];
  tell(`${image}: ${verdict === null ? "verdict taken back" : SAID[verdict].toLowerCase()}`);
  if (!stay && verdict !== null && place >= 0 && place + 1 < known.labels.length) await go(place + 1);
  else if (!stay) await show(image, classId);
  return true;
}

function note(image, classId, verdict) {
  if (verdict) verdicts.set(keyOf(image, classId), verdict);
  else verdicts.delete(keyOf(image, classId));
}

/** Say a verdict that does not come from the brush, where nothing painted would be lost. */
async function judge(verdict, runs) {
  if (painting?.done.length && painted() !== began) {
    if ((await ask("Drop what was painted?", "The painted mask is not saved, and this verdict is another one.", { drop: "Drop it", stay: "Stay here" })) !== "drop") return;
    painting.done = [];
  }
  await say(verdict, runs);
}

const acts = {
  keep: () => judge("keep"),
  predicted: () => shown && masks.prediction && !shown.fixed && judge("replace", shown.labels[at.classId].prediction),
  empty: () => shown && !shown.fixed && judge("empty"),
  leave: () => judge("leave out"),
  back: () => shown && (shown.left_out || shown.labels[at.classId].verdict) && judge(null),
  save: () => painting?.done.length && !shown.fixed && say("replace", painted()),
  undo: () => { if (painting?.undo()) drawTools(); },
  redo: () => { if (painting?.redo()) drawTools(); },
  "from-label": () => start(masks.label),
  "from-prediction": () => masks.prediction && start(masks.prediction),
  "from-empty": () => painting && start(new Uint8Array(masks.label.length)),
  smaller: () => resize(-1),
  larger: () => resize(1),
  cursor: () => setCursor(!board.cursor),
  previous: () => go(at.place - 1),
  next: () => go(at.place + 1),
  unjudged: nextOpen,
  in: () => board.canvas.zoom(1.5),
  out: () => board.canvas.zoom(1 / 1.5),
  fit: () => board.canvas.show(null),
  put: putBeside,
};

function start(mask) {
  if (!painting || shown.fixed) return;
  painting.replace(mask);
  drawTools();
}

function resize(by) {
  const place = SIZES.indexOf(board.size) + by;
  board.size = SIZES[Math.min(SIZES.length - 1, Math.max(0, place))];
  drawTools();
  board.canvas.draw();
}

function choose(tool) {
  if (shown?.fixed && tool !== "move") return;
  board.tool = tool;
  drawTools();
  board.canvas.draw();
}

// painting by the keyboard

function setCursor(on) {
  drawing = false;
  board.cursor = on && painting && !shown.fixed ? board.middle : null;
  by("cursor").setAttribute("aria-pressed", String(Boolean(board.cursor)));
  if (board.cursor) {
    if (board.tool === "move") choose("brush");
    board.element.focus();
    told();
  }
  board.canvas.draw();
}

function steer(event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const centre = ({ x, y }) => ({ x: x + 0.5, y: y + 0.5 });
  if (steps) {
    const far = event.shiftKey ? 10 : 1;
    const from = board.cursor;
    const inside = (place, size) => Math.min(size - 1, Math.max(0, place));
    board.cursor = { x: inside(from.x + steps[0] * far, painting.width), y: inside(from.y + steps[1] * far, painting.height) };
    if (drawing) edit(() => painting.stroke(centre(from), centre(board.cursor), board.size, board.tool === "eraser" ? 0 : 1));
    board.canvas.reveal(board.cursor);
  } else if (event.key === " ") {
    edit(() => begin(centre(board.cursor), false));
  } else if (event.key === "d") {
    drawing = !drawing && board.tool !== "fill";
    if (drawing) edit(() => begin(centre(board.cursor), false));
  } else if (event.key === "Escape") {
    setCursor(false);
    return tell("");
  } else {
    return false;
  }
  event.preventDefault();
  told();
  return true;
}

function edit(change) {
  if (!painting.before) painting.begin();
  change();
  painting.end();
  drawTools();
}

function told() {
  const { x, y } = board.cursor;
  const inside = painting.mask[y * painting.width + x] ? "in the mask" : "not in the mask";
  tell(`row ${y + 1}, column ${x + 1}, ${inside}${drawing ? ", drawing" : ""}`);
}

// what stands on the page

function drawPlace() {
  by("name").textContent = at.image;
  by("class").value = at.classId;
  by("number").value = at.place >= 0 ? at.place + 1 : "";
  by("previous").disabled = at.place <= 0;
  by("next").disabled = at.place + 1 >= known.labels.length;
}

function drawLabel() {
  const label = shown.labels[at.classId];
  const verdict = shown.left_out ? "leave out" : label.verdict;
  const byPrediction = verdict === "replace" && label.runs === label.prediction;
  by("verdict").textContent = verdict ? (byPrediction ? "Prediction taken" : SAID[verdict]) : "No verdict yet";
  by("verdict").classList.toggle("muted", !verdict);
  by("back").hidden = !verdict;
  by("keep").setAttribute("aria-pressed", String(verdict === "keep"));
  by("predicted").setAttribute("aria-pressed", String(byPrediction));
  by("empty").setAttribute("aria-pressed", String(verdict === "empty"));
  by("leave").setAttribute("aria-pressed", String(verdict === "leave out"));
  board.element.setAttribute("aria-label", `Image ${at.image}; c paints by the keyboard`);
  drawProgress();
}

function drawProgress() {
  const done = known.labels.filter(judged).length;
  Object.assign(by("progress"), { max: Math.max(1, known.labels.length), value: done });
  const quality = at.place >= 0 ? `quality ${known.labels[at.place][2].toFixed(3)}` : "not ranked";
  by("judged").textContent = `${done.toLocaleString("en")} of ${known.labels.length.toLocaleString("en")} judged · ${quality}`;
  by("judged").title = "Quality: how likely the networks find this label, 0 to 1";
  by("count").textContent = known.labels.length.toLocaleString("en");
  const count = verdicts.size;
  const beside = count && known.all_put ? `; all beside ${known.dataset}` : "";
  by("file").textContent = `${count.toLocaleString("en")} ${count === 1 ? "verdict" : "verdicts"} in ${known.file}${beside}`;
  by("put").disabled = !count || known.all_put;
}

function drawTools() {
  if (!shown) return;
  const fixed = shown.fixed !== null;
  if (fixed) board.tool = "move";
  by("fixed").hidden = !fixed;
  by("fixed").textContent = fixed ? `Nothing can be painted: ${shown.fixed}.` : "";
  for (const button of by("painting").querySelectorAll("button")) button.disabled = fixed && button.dataset.tool !== "move";
  for (const button of document.querySelectorAll("[data-tool]")) {
    if (button.tagName === "BUTTON") button.setAttribute("aria-pressed", String(button.dataset.tool === board.tool));
  }
  board.element.dataset.tool = board.tool;
  by("size").textContent = `${board.size} px`;
  by("smaller").disabled ||= board.size === SIZES[0];
  by("larger").disabled ||= board.size === SIZES.at(-1);
  by("undo").disabled ||= !painting.done.length;
  by("save").disabled ||= !painting.done.length;
  by("redo").disabled ||= !painting.undone.length;
  by("from-prediction").disabled ||= !masks.prediction;
  by("predicted").disabled = fixed || !masks.prediction;
  by("empty").disabled = fixed;
}

let silence;
function tell(said, warns = false) {
  by("told").textContent = said;
  by("told").classList.toggle("warn", warns);
  clearTimeout(silence);
  if (!warns && !board.cursor) silence = setTimeout(() => (by("told").textContent = ""), 4000);
}

/** Ask a person; the name of the choice, null where none was made. */
function ask(title, said, choices) {
  const dialog = by("ask");
  by("ask-title").textContent = title;
  by("ask-said").textContent = said;
  by("ask-choices").replaceChildren(...Object.entries(choices).map(([name, text], number) =>
    element("button", { value: name, class: number ? null : "first" }, text)));
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue || null), { once: true }));
}

async function putBeside() {
  const said = `What ${known.file} says is put beside ${known.dataset}, as segsmith correct does: whoever opens it from then on sees the labels corrected. ` +
    "Its fingerprint changes with that: runs on it cannot be gone on with, decided or evaluated again. Train a new run on it.";
  if (!(await settled()) || (await ask("Put the corrections beside the dataset?", said, { put: "Put beside", stay: "Not now" })) !== "put") return;
  try {
    await askedJson(`${api}/correct`, { method: "POST" });
    await look();
    await show(at.image, at.classId);
    tell("The dataset is corrected. Train a new run on it.");
  } catch (error) {
    tell(error.message, true);
  }
}

/** Ask what there is, and what was said so far. */
async function look() {
  known = await askedJson(api);
  verdicts = new Map(known.verdicts.map(([image, classId, verdict]) => [keyOf(image, classId), verdict]));
}

/** What the address names, or the first label that is open. */
async function follow() {
  const named = new URLSearchParams(location.hash.slice(1));
  const image = named.get("image");
  if (image !== null) return show(image, Math.max(0, known.classes.indexOf(named.get("class"))));
  const first = known.labels.find((label) => !judged(label)) ?? known.labels[0];
  if (first) return show(first[0], first[1]);
  by("sides").hidden = true;
  const said = known.command ? "Labels are ranked by how far the networks disagree with them. This run has no ranking yet:" : "No label is ranked.";
  by("main").append(stateElement("Nothing to review yet", said, known.command));
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return acts[event.shiftKey ? "redo" : "undo"]();
  }
  if (typing(event)) return;
  const onControl = event.target.matches("button, a, input, select");
  if (board.cursor && !(onControl && event.key === " ") && steer(event)) return;
  if (event.key === " " && !onControl) {
    board.panning = true;
    return event.preventDefault();
  }
  const does = {
    ArrowLeft: acts.previous, ArrowRight: acts.next, n: nextOpen, a: acts.keep, p: acts.predicted, o: acts.empty, x: acts.leave,
    u: acts.back, s: acts.save, z: acts.undo, Z: acts.redo, y: acts.redo, c: acts.cursor, "[": acts.smaller, "]": acts.larger,
    "+": acts.in, "=": acts.in, "-": acts.out, 0: acts.fit, b: () => choose("brush"), e: () => choose("eraser"), f: () => choose("fill"),
    m: () => choose("move"), 1: () => by("show-mask").click(), 2: () => by("show-label").click(), 3: () => by("show-prediction").click(),
  }[event.key];
  if (does && (!event.repeat || "[]+-zy".includes(event.key))) { // a verdict is said once, however long its key is held
    event.preventDefault();
    does();
  }
});
document.addEventListener("keyup", (event) => { if (event.key === " ") board.panning = false; });
addEventListener("beforeunload", (event) => { if (painting?.done.length && painted() !== began) event.preventDefault(); });
addEventListener("hashchange", async () => {
  if (folderNumber() !== folder) location.reload();
  else if (await settled()) follow();
});
for (const [id, does] of Object.entries(acts)) by(id).addEventListener("click", does);
for (const button of document.querySelectorAll("button[data-tool]")) button.addEventListener("click", () => choose(button.dataset.tool));
for (const name of ["mask", "label", "prediction"]) {
  by(`show-${name}`).addEventListener("change", (event) => { board.shown[name] = event.target.checked; board.canvas.draw(); });
}
by("number").addEventListener("change", (event) => go(Number(event.target.value) - 1));
by("class").addEventListener("change", async (event) => {
  const chosen = Number(event.target.value);
  if (await settled()) await show(at.image, chosen);
  else event.target.value = at.classId;
});

Object.assign(board.element, { id: "board", role: "application" });
board.element.setAttribute("aria-describedby", "told");
by("told").before(board.element);

try {
  const folders = await askedFolders();
  drawHeader(folders, folder, KEYS);
  await look();
  by("class").append(...known.classes.map((name, number) => element("option", { value: number }, `class ${name}`)));
  by("class").hidden = known.classes.length < 2;
  by("sides").hidden = false;
  by("number").max = known.labels.length;
  by("counted").hidden = !known.labels.length;
  await follow();
} catch (error) {
  by("sides").hidden = true;
  by("main").append(stateElement("This run cannot be reviewed", error.message, error.command));
}
