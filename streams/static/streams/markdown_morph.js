/** Changes the elements on the page into new ones, touching only the nodes that differ. */

/**
 * Change the children of `parent` behind `after` (null: all children) into `nodes`.
 *
 * Equal nodes stay, so the reader keeps the selection and the scroll position. With `leave`,
 * children behind the new ones stay too. This is a generator; between its steps the page is whole.
 * Returns the nodes that are on the page now.
 */
export function* morphChildren(parent, after, nodes, leave = false) {
  let old = after ? after.nextSibling : parent.firstChild;
  const placed = [];
  for (const node of nodes) {
    const here = old;
    old = here === null ? null : here.nextSibling;
    const stays = here !== null && isAlike(here, node);
    if (stays) yield* morph(here, node);
    else if (here === null) parent.append(node);
    else here.replaceWith(node);
    placed.push(stays ? here : node);
  }
  while (old !== null && !leave) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
  return placed;
}

// With this many new children, replacing is faster: for each, browsers compute dir="auto" again.
const MANY = 200;

function isAlike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName || one.className !== other.className) return false;
  return Math.abs(one.childNodes.length - other.childNodes.length) < MANY;
}

function* morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) morphText(old, fresh.data);
  // Leave a button, which may show "Copied", and code that has its colours already.
  else if (old.tagName !== "BUTTON" && !isColoured(old, fresh)) yield* morphElement(old, fresh);
}

const isColoured = (old, fresh) => "coloured" in old.dataset && old.textContent === fresh.textContent;

function* morphElement(old, fresh) {
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const name of fresh.getAttributeNames()) {
    if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
  }
  yield;
  yield* morphChildren(old, null, [...fresh.childNodes]);
}

/** If the text has grown, append to it, because replacing it would lose a selection in it. */
function morphText(node, text) {
  if (node.data === text) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}
