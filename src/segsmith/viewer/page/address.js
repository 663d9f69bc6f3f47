// What is looked at <-> the fragment of the address, so that a link shows the same and the back button works.

/** What the address says: {folder: "0", image: "a.png", level: "120", ...}; all are texts. */
export const told = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

/** The fragment of a state; what is null, undefined or "" is left out. */
export function fragment(state) {
  const kept = Object.entries(state).filter(([, value]) => value != null && value !== "");
  return `#${new URLSearchParams(kept)}`;
}

let waiting = null;

/** Say some things anew in the address, as a step that the back button goes back over. */
export function go(changes) {
  settle();
  const next = fragment({ ...told(), ...changes });
  if (next !== location.hash) location.hash = next;
}

/** Likewise, but as no step of its own: for what slides. Browsers take few such changes a second, so they wait. */
export function note(changes) {
  clearTimeout(waiting?.timer);
  const all = { ...waiting?.changes, ...changes };
  waiting = { changes: all, timer: setTimeout(settle, 150) };
}

/** Say at once what `note` still holds back. */
export function settle() {
  if (!waiting) return;
  clearTimeout(waiting.timer);
  const next = fragment({ ...told(), ...waiting.changes });
  waiting = null;
  history.replaceState(null, "", next);
}
