/** The first screen of a new conversation: agents to choose, and ideas for a first message. */

import { el } from "./dom.js";

const IDEAS = 4; // that are shown for an agent

export class Welcome {
  #agents;
  #ideas;
  #usual; // the ideas in the page's template
  #select;
  #items = [];
  #usualModel = null;

  /** `select` is the field of the model; `fill(text)` puts a message into the form. */
  constructor(root, select, fill) {
    this.#agents = root.querySelector("#agents");
    this.#ideas = root.querySelector("#ideas");
    this.#usual = [...this.#ideas.children];
    this.#select = select;
    select.addEventListener("change", () => this.#show());
    this.#ideas.addEventListener("click", ({ target }) => {
      const idea = target.closest("button")?.dataset.idea;
      if (idea) fill(idea);
    });
  }

  /** Offer the agents among these: each `{id, kind, suggestions?}`. `usual` is the default model. */
  offer(items, usual) {
    this.#items = items;
    this.#usualModel = usual;
    const agents = items.filter(({ kind }) => kind === "agent");
    this.#agents.hidden = agents.length === 0;
    this.#agents.replaceChildren(el("span", {}, "Agents"), ...agents.map(({ id }) =>
      el("button", { type: "button", class: "quiet-button", "data-agent": id, on: { click: () => this.#choose(id) } }, id)));
    this.#show();
  }

  /** Choose an agent, or the default model again if the agent is chosen already. */
  #choose(id) {
    this.#select.value = this.#select.value === id ? this.#usualModel : id;
    this.#select.dispatchEvent(new Event("change"));
  }

  #show() {
    const chosen = this.#items.find(({ id }) => id === this.#select.value);
    for (const button of this.#agents.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.agent === chosen?.id));
    }
    const suggestions = (chosen?.suggestions ?? []).slice(0, IDEAS);
    const buttons = suggestions.map((text) => el("button", { type: "button", "data-idea": text }, text));
    this.#ideas.replaceChildren(...(buttons.length > 0 ? buttons : this.#usual));
  }
}
