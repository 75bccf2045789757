/** Bringing elements that stand on the page to what they should be, touching only what differs. */

/**
 * Make what follows `after` in `parent` (null: all of it) into `nodes`; `leave` what follows those.
 *
 * What is the same stays the same node, so a reader's selection and place in it stay too.
 * Gives the nodes that stand there now. Done in steps, between which each node is whole.
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

// A browser looks for the direction of a block's words at each node that is added to it.
const MANY = 200;

function isAlike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName || one.className !== other.className) return false;
  return Math.abs(one.childNodes.length - other.childNodes.length) < MANY;
}

function* morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) morphText(old, fresh.data);
  // A button may be saying that it has copied, and colours come later.
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

/** Text that has grown keeps a selection in it only if it is added to. */
function morphText(node, words) {
  if (node.data === words) return;
  if (words.startsWith(node.data)) node.appendData(words.slice(node.data.length));
  else node.data = words;
}
