/** Helpers that create elements, without any HTML in strings, and announce to screen readers. */

/** Create an element. `attributes` may hold `on: {event: listener}`; false and null are omitted. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Create a link to another site. The caller checks the address. */
export function externalLink(href, attributes, ...children) {
  return el("a", { ...attributes, href, rel: "noopener noreferrer", target: "_blank" }, ...children);
}

const SVG = "http://www.w3.org/2000/svg";

/** Create an icon from one of the symbols in the page's template. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, click, attributes = {}) {
  const properties = { type: "button", class: "icon-button", "aria-label": label, title: label };
  return el("button", { ...properties, ...attributes, on: { click } }, icon(name));
}

/**
 * The first `most` characters as a reader counts them (grapheme clusters: an emoji of a family,
 * a flag, a letter with its accents), in at most `units` UTF-16 code units.
 */
export function beginning(text, most, units = Infinity) {
  if (text.length <= Math.min(most, units)) return text;
  // Most characters are one or two units, so this part of a long text is enough.
  const some = text.slice(0, most * 32);
  if (!Intl.Segmenter) return [...some].slice(0, most).join("");
  const segments = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(some);
  let end = 0;
  let count = 0;
  for (const { index, segment } of segments) {
    if (count === most || index + segment.length > units) break;
    count += 1;
    end = index + segment.length;
  }
  return some.slice(0, end);
}

/** Does this key belong to an input method (IME)? Safari marks it only by the key code 229. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Let screen readers read this sentence once, after their current sentence. */
export function announce(sentence) {
  const region = document.getElementById("announcements");
  region.textContent = "";
  // Screen readers ignore a region that is set to the text it already has, so empty it first.
  requestAnimationFrame(() => (region.textContent = sentence));
}
