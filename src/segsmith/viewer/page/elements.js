// Names, attributes, children -> elements of a page; and what all pages say the same way.

/** An element: `element("button", {class: "icon", onclick: close}, "Close")`. Functions listen, booleans set or leave
 * out an attribute, null and undefined leave it out; children are elements or text, null is none. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key.replace(/^on/, ""), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null));
  return made;
}

/** A sentence in place of what cannot be shown, and the command that helps, if one does. */
export function stateElement(title, said, command = null) {
  return element("div", { class: "state", role: "status" },
    element("h1", {}, title),
    element("p", {}, said),
    command && element("pre", {}, element("code", {}, command)));
}

/** What the viewer answered that it could not do: `said` is a sentence, `command` what helps, or null. */
export class Refused extends Error {
  constructor(said, command = null) {
    super(said);
    this.command = command;
  }
}

/** What the viewer answers at an address, if it could do it. Throws Refused. */
export async function asked(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The viewer does not answer; is it still running?");
  }
  if (response.ok && !response.headers.has("Refused")) return response;
  const text = await response.text();
  let answer = {};
  try {
    answer = JSON.parse(text);
  } catch {
    // an answer in plain words
  }
  throw new Refused(answer.said ?? (text || `The viewer answered ${response.status}.`), answer.command);
}

/** Likewise, read as JSON. */
export const askedJson = async (address, options) => (await asked(address, options)).json();
