// The first page: the gallery of a run, or one image of it, as the address says.

import { settle, told } from "./address.js";
import { ChipTable } from "./chip_table.js";
import { askedJson, stateElement } from "./elements.js";
import { GALLERY_KEYS, Gallery } from "./gallery.js";
import { askedFolders, drawHeader } from "./header.js";
import { IMAGE_KEYS, ImageView } from "./image_view.js";

const main = document.querySelector("main");
const tables = new Map();
let folders = [], gallery = null, view = null, lastImage = null;

/** The table of a run, asked for once. */
function tableOf(number) {
  if (!tables.has(number)) tables.set(number, askedJson(`/api/runs/${number}/gallery`).then((answer) => new ChipTable(answer)));
  tables.get(number).catch(() => tables.delete(number));
  return tables.get(number);
}

async function draw() {
  const state = told();
  const number = Number(state.folder ?? 0), folder = folders[number];
  try {
    if (!folder) return say("Nothing there", `No folder has the number ${state.folder}; ${folders.length} are looked at.`);
    if (folder.kind === "prediction") return location.replace(`/page/raster.html#folder=${number}`);
    drawHeader(folders, number, state.image ? IMAGE_KEYS : GALLERY_KEYS);
    const table = await tableOf(number);
    if (told().folder !== state.folder || told().image !== state.image) return undefined;
    document.title = state.image ? `${state.image} · ${folder.name}` : `${folder.name} · segsmith view`;
    if (state.image) return await drawImage(table, number, state);
    view?.leave();
    view = null;
    if (gallery?.table === table) gallery.draw(state);
    else gallery = new Gallery(table, number);
    if (gallery.element.parentElement !== main) main.replaceChildren(gallery.element);
    if (lastImage) gallery.reveal(lastImage);
    lastImage = null;
    return undefined;
  } catch (error) {
    view?.leave();
    view = gallery = null;
    return say("Not to be shown yet", error.message, error.command);
  }
}

async function drawImage(table, number, state) {
  if (!table.rowOf.has(state.image)) return say("No such image", `${state.image} is none of the images that this run was validated on, nor held out.`);
  lastImage = state.image;
  if (view?.table !== table) {
    view?.leave();
    view = new ImageView({ table, number, folders, tableOf });
  }
  if (view.element.parentElement !== main) main.replaceChildren(view.element);
  return view.draw(state);
}

function say(title, said, command) {
  main.replaceChildren(stateElement(title, said, command));
}

window.addEventListener("hashchange", draw);
window.addEventListener("pagehide", settle);
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if ((view ?? gallery)?.key(event)) event.preventDefault();
});

try {
  folders = await askedFolders();
  if (folders.length) await draw();
  else say("Nothing to look at", "No folder was named.", "segsmith view RUN...");
} catch (error) {
  say("Not to be shown", error.message, error.command);
}
