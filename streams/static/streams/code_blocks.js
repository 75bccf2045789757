/** Code blocks: a line with the language and a copy button above, and colours once closed. */

import { el } from "./dom.js";

const LONGEST = 60_000; // characters that are worth colouring
const TAGS = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

let colours = null; // highlight.js, once a block has asked for it

async function library() {
  await import("./vendor/purify.min.js");
  return (await import("./vendor/highlight.min.js")).default;
}

/** The block around a `pre`: what is written in it is laid out from left to right. */
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

/** Colour a block that has closed, when there is a moment. */
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

/** What is copied of a block: pasted into a shell, a line's end at the end would run it. */
export const copyable = (code) => code.textContent.replace(/(?:[ \t]*[\n\r])+[ \t]*$/, "");

/** Copy what a button stands for, and say so on it. */
export async function copyText(button, text) {
  const label = button.getAttribute("aria-label");
  const words = button.textContent;
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    said = copyByHand(text) ? "Copied" : "Could not copy";
  }
  if (label) button.setAttribute("aria-label", said);
  else button.textContent = said;
  button.classList.add("done");
  setTimeout(() => {
    button.classList.remove("done");
    if (label) button.setAttribute("aria-label", label);
    else button.textContent = words;
  }, 1600);
}

/** Without a secure context there is no clipboard but the old command's. */
function copyByHand(text) {
  const field = el("textarea", { class: "unseen" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
