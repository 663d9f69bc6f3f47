// Two that lie beside one another: whose panel is shown, and moved by keys.

import { element } from "./elements.js";

export class SideChoice {
  /** `names` are those of one or two, `panels` an element of each; one alone leaves nothing to choose. */
  constructor(title, names, panels) {
    this.panels = panels;
    this.buttons = names.map((name, n) => element("button", { title: `${title} ${name} (x)`, onclick: () => this.choose(n) }, name));
    this.element = element("div", { class: "row side-choice", role: "group", "aria-label": title, hidden: names.length < 2 }, this.buttons);
    this.choose(0);
  }

  /** Show the panel of one, by its number. */
  choose(number) {
    this.chosen = number;
    this.buttons.forEach((button, n) => button.setAttribute("aria-pressed", n === number));
    this.panels.forEach((panel, n) => { panel.hidden = n !== number; });
  }

  /** Show that of the other, where there is one. */
  other() {
    this.choose((this.chosen + 1) % this.panels.length);
  }
}
