/** A tool call as one line with its state and time. The line opens to show input and result. */

import { el } from "./dom.js";
import { treeOf } from "./json_tree.js";
import { inWords } from "./run_stats.js";

const BRIEF = 120; // characters of the input on the line
const ARGUMENTS = 6; // of the input on the line

// The `error` of a call that the service closed because its run ended.
const CLOSED = {
  cancelled: ["stopped", "The reply was stopped before the tool returned."],
  worker_lost: ["interrupted", "The worker was lost. Whether the tool finished is unknown."],
  failed: ["failed", "The reply ended before the tool returned."],
};

export class ToolCall {
  element;
  #name = el("bdi", { class: "call-name" });
  #brief = el("bdi", { class: "call-brief" });
  #state = el("span", { class: "call-state" });
  #body = el("div", { class: "call-body" });
  #shown = null; // the JSON of the call on the page
  #item = null;
  #begun = null; // when this page first showed the call as running
  #isFilled = false;

  constructor() {
    const sign = el("span", { class: "call-sign", "aria-hidden": "true" });
    const line = el("summary", {}, sign, this.#name, this.#brief, this.#state);
    this.element = el("details", { class: "call", on: { toggle: () => this.#fill() } }, line, this.#body);
  }

  /** Show a call of a reply that is being written. */
  write(item) {
    this.#show(item, true);
    return false;
  }

  /** Show a call of a reply that is over. */
  settle(item) {
    this.#show(item, false);
  }

  isWhole() {
    return true;
  }

  #show(item, isLive) {
    if (item.part === this.#item?.part && item.result === this.#item?.result && (item.result || isLive)) return;
    const { part, result } = item;
    const [state, label] = stateOf(result, isLive);
    // A snapshot brings the same parts as new objects. What the reader has opened must then stay open.
    const shown = JSON.stringify([part, result, state]);
    this.#item = item;
    if (shown === this.#shown) return;
    this.#shown = shown;
    const isCall = part.type === "tool_call";
    this.#name.textContent = isCall ? part.name : "Result";
    this.#brief.textContent = isCall ? briefOf(part.input) : "";
    if (state === "running") this.#begun ??= performance.now();
    this.#state.textContent = `${label}${this.#took(state)}`;
    this.element.dataset.state = state;
    this.#isFilled = false;
    this.#fill();
  }

  /** The time between call and result, if this page has seen both happen. */
  #took(state) {
    if (state === "running" || this.#begun === null) return "";
    const took = ` · ${inWords((performance.now() - this.#begun) / 1000)} s`;
    this.#begun = null;
    return took;
  }

  /** Create the input and the result once the reader opens the line. */
  #fill() {
    if (!this.element.open || this.#isFilled) return;
    this.#isFilled = true;
    const { part, result } = this.#item;
    this.#body.replaceChildren();
    if (part.executed === "provider") this.#body.append(el("p", {}, "The model's provider ran this tool."));
    if (part.type === "tool_call") this.#add("Input", treeOf(part.input));
    if (result === null) return;
    if (result.error !== undefined) return this.#add("Error", el("p", {}, CLOSED[result.error]?.[1] ?? result.error));
    this.#add("Result", treeOf(valueOf(result.output)));
    if (result.truncated) this.#body.append(el("p", {}, "The result was too large. Its end is not shown."));
  }

  #add(title, content) {
    this.#body.append(el("p", { class: "call-title" }, title), content);
  }
}

function stateOf(result, isLive) {
  if (result === null) return isLive ? ["running", "running"] : ["failed", "no result"];
  if (result.error === undefined) return ["done", "done"];
  return ["failed", CLOSED[result.error]?.[0] ?? "failed"];
}

/** The output. If it is the text of a JSON object or list, as from LangChain, the parsed value. */
function valueOf(output) {
  if (typeof output !== "string" || !/^\s*[[{]/.test(output)) return output;
  try {
    return JSON.parse(output);
  } catch {
    return output;
  }
}

function briefOf(input) {
  const words = (value) => (typeof value === "string" ? value.slice(0, BRIEF) : JSON.stringify(value));
  const some = Object.entries(input).slice(0, ARGUMENTS);
  const line = some.map(([name, value]) => `${name.slice(0, BRIEF)}: ${words(value)}`).join(", ");
  return line.replace(/\s+/g, " ").slice(0, BRIEF);
}
