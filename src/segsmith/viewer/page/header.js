// The header of every page: which folder is looked at, what there is of it, and the keys of the page.

import { askedJson, element } from "./elements.js";

const TABS = {
  run: [["Images", "/"], ["Review", "/page/review.html"]],
  prediction: [["Raster", "/page/raster.html"]],
};

/** Ask which folders there are: [{number, kind: "run" or "prediction", name, path, fault}]. */
export const askedFolders = () => askedJson("/api/folders");

/** The number of the folder that the address names (`#folder=1&...`), 0 if none. */
export function folderNumber() {
  return Number(new URLSearchParams(location.hash.slice(1)).get("folder") ?? 0);
}

/** Put the header before everything else. `keys` are [[key, ...], what it does] of the page; `?` shows them. */
export function drawHeader(folders, number, keys) {
  const shown = folders[number];
  const help = helpDialog(keys);
  const header = element("header", { class: "top" },
    element("a", { class: "mark", href: "/" }, "segsmith"),
    folders.length > 1 ? folderChoice(folders, number) : element("span", { class: "folder" }, shown?.name ?? ""),
    element("nav", { "aria-label": "Pages" },
      element("ul", { class: "tabs" }, (TABS[shown?.kind] ?? []).map(([name, page]) =>
        element("li", {}, element("a", {
          href: `${page}#folder=${number}`,
          "aria-current": location.pathname === page ? "page" : null,
        }, name))))),
    element("span", { class: "space" }),
    element("button", { class: "icon", title: "Keys (?)", "aria-label": "Keys", onclick: () => help.showModal() }, "?"));
  document.querySelector(".top")?.remove();
  document.querySelector("dialog.help")?.remove();
  document.body.prepend(header);
  document.body.append(help);
}

function folderChoice(folders, number) {
  const go = (event) => {
    const chosen = folders[event.target.value];
    const [, page] = (TABS[chosen.kind] ?? TABS.run)[0];
    location.assign(`${page}#folder=${chosen.number}`);
  };
  return element("select", { "aria-label": "Folder", onchange: go },
    folders.map((of) => element("option", { value: of.number, selected: of.number === number }, of.name)));
}

function helpDialog(keys) {
  const dialog = element("dialog", { class: "help", "aria-labelledby": "help-title" },
    element("h2", { id: "help-title" }, "Keys"),
    element("dl", { class: "keys" }, keys.flatMap(([pressed, does]) => [
      element("dt", {}, pressed.flatMap((key, n) => [n ? " " : "", element("kbd", {}, key)])),
      element("dd", {}, does),
    ])),
    element("form", { method: "dialog" }, element("button", { class: "first" }, "Close")));
  return dialog;
}

const SLIDES = /^(Arrow|Page|Home|End)/;

/** Whether a key goes to something that types, or slides by it, and is not the page's. */
export const typing = (event) =>
  event.ctrlKey || event.metaKey || event.altKey ||
  event.target.matches("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select") ||
  (event.target.matches("input[type=range]") && SLIDES.test(event.key));

document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !event.target.matches("input[type=search], input[type=text], textarea")) {
    document.querySelector("dialog.help")?.showModal();
  }
});
