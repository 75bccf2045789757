/** Making elements, without a line of HTML in a string. */

/** An element; `attributes` may hold `on: {event: listener}`, and false or null leaves one out. */
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

const SVG = "http://www.w3.org/2000/svg";

/** One of the icons that the page's template holds as symbols. */
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

/** The first `most` characters as a reader counts them (a family, a flag, a letter with its accents), in at most `units` of JavaScript's. */
export function beginning(text, most, units = Infinity) {
  if (text.length <= Math.min(most, units)) return text;
  // Most characters are one or two units; no more of a long text is looked at than can be needed.
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

/** Is this key a part of writing with an input method? Safari says so with a code alone. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Say it to screen readers, once, when they have a moment. */
export function announce(sentence) {
  const region = document.getElementById("announcements");
  region.textContent = "";
  // A region that is set to what it already says is not read again.
  requestAnimationFrame(() => (region.textContent = sentence));
}
