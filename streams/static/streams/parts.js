/**
 * The parts of a reply, and how events change the list, by the rule of streams/protocol/parts.py.
 *
 * Pure functions. An unchanged part stays the same object, so the page need not draw it again.
 */

/** The type of the part that an event brings whole; text and reasoning come in deltas. */
export const PART_EVENTS = {
  "tool.called": "tool_call",
  "tool.returned": "tool_result",
  "source.added": "source",
  "data.updated": "data",
};

/** The list of parts after `part` is added. */
export function addPart(parts, part) {
  const last = parts.at(-1);
  if (part.type === "text" || part.type === "reasoning") {
    if (part.text === "") return parts;
    if (last?.type === part.type) return [...parts.slice(0, -1), { ...last, text: last.text + part.text }];
  }
  if (part.type === "data" && part.id !== undefined) {
    const isSame = ({ type, name, id }) => type === "data" && name === part.name && id === part.id;
    if (parts.some(isSame)) return parts.map((other) => (isSame(other) ? part : other));
  }
  return [...parts, part];
}

export const textOf = (parts) => parts.map(({ type, text }) => (type === "text" ? text : "")).join("");

/** Whether `after` only adds to `before`, so that no text that is on the page has to change. */
export function continues(before, after) {
  return before.every(({ type, text }, place) =>
    after[place]?.type === type && (text === undefined || after[place].text.startsWith(text)));
}

/**
 * The items that the page shows for these parts, in order: each `{type, part, result, number}`. The
 * item of a call has its result, or null until the call returns. `number` counts sources from 1.
 */
export function itemsOf(parts) {
  const items = [];
  const calls = new Map();
  let sources = 0;
  for (const part of parts) {
    const { type, call } = part;
    const answered = type === "tool_result" ? calls.get(call) : undefined;
    if (answered) {
      answered.result = part;
      continue;
    }
    if (type === "source") sources += 1;
    const item = { type, part, result: type === "tool_result" ? part : null, number: sources };
    if (type === "tool_call") calls.set(call, item);
    items.push(item);
  }
  return items;
}
