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

/** Say it to screen readers, once, when they have a moment. */
export function announce(sentence) {
  const region = document.getElementById("announcements");
  region.textContent = "";
  // A region that is set to what it already says is not read again.
  requestAnimationFrame(() => (region.textContent = sentence));
}
