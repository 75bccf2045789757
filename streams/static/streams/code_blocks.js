/** Code blocks: a bar with the language and a copy button, and colours once the block has ended. */

import { el } from "./dom.js";

const LONGEST = 60_000; // characters; a longer block is not coloured
const TAGS = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

let colours = null; // the promise of highlight.js, once a block has needed it

async function library() {
  await import("./vendor/purify.min.js");
  return (await import("./vendor/highlight.min.js")).default;
}

/** Returns a `pre` with its bar around it. Code always runs from left to right. */
export function dressCode(pre, language = "") {
  const name = /^[\w+#.-]{1,30}$/.test(language) ? language.toLowerCase() : "";
  const figure = frame(pre);
  figure.dataset.language = name;
  figure.querySelector(".code-language").textContent = name || "text";
  pre.setAttribute("aria-label", name ? `Code, ${name}` : "Code");
  return figure;
}

function frame(pre) {
  pre.setAttribute("tabindex", "0");
  pre.setAttribute("role", "region");
  const copy = el("button", { type: "button", class: "code-copy", "data-copy": "code" }, "Copy");
  const line = el("div", { class: "code-line" }, el("span", { class: "code-language" }), copy);
  return el("div", { class: "code", dir: "ltr" }, line, pre);
}

/** Colour a block that has ended, when the browser is idle. */
export async function highlight(code) {
  const { language } = code.closest(".code").dataset;
  const text = code.textContent;
  if (!language || code.dataset.coloured || text.length > LONGEST) return;
  const hljs = await (colours ??= library());
  if (!hljs.getLanguage(language) || code.textContent !== text) return;
  const colour = () => {
    const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
    code.replaceChildren(globalThis.DOMPurify.sanitize(value, TAGS));
    code.dataset.coloured = "yes";
  };
  if (window.requestIdleCallback) requestIdleCallback(colour, { timeout: 500 });
  else setTimeout(colour, 0);
}

/** The text to copy, without the last line break, because a shell would run a pasted command. */
export const copyable = (code) => code.textContent.replace(/(?:[ \t]*[\n\r])+[ \t]*$/, "");

/** Copy `text`, and show the result on the button for a moment. */
export async function copyText(button, text) {
  const label = button.getAttribute("aria-label");
  const textBefore = button.textContent;
  let result = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    result = copyByHand(text) ? "Copied" : "Could not copy";
  }
  if (label) button.setAttribute("aria-label", result);
  else button.textContent = result;
  button.classList.add("done");
  setTimeout(() => {
    button.classList.remove("done");
    if (label) button.setAttribute("aria-label", label);
    else button.textContent = textBefore;
  }, 1600);
}

/** Copy over plain HTTP, where browsers offer only the old command, not the clipboard API. */
function copyByHand(text) {
  const field = el("textarea", { class: "unseen" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
