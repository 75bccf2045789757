/**
 * Calls of the service's public API.
 *
 * An error response becomes a sentence for the reader. A POST without a response is sent again
 * with the same Idempotency-Key, so the service does not do it twice.
 */

import { beginning } from "./dom.js";

const TRIES = 3; // of a POST that got no response
const PAUSE = 600; // milliseconds before the second try

const SENTENCES = {
  conversation_busy: "A reply is still being written here.",
  not_last_turn: "Only the last reply can be written again.",
  unknown_model: "That model is not offered any more. Please choose another.",
  too_many_runs: "Many replies are being written for you already. Let one finish first.",
};
const BY_STATUS = {
  0: "The service cannot be reached. Your message is kept here.",
  401: "You are signed out. Sign in to continue.",
  403: "The service refused this. Reload the page and try again.",
  404: "This does not exist any more, or it is not yours.",
  413: "This message is too long.",
  422: "The service did not understand this request.",
  429: "Too many requests. Please wait a moment and try again.",
  503: "The service is busy. Please try again in a moment.",
};

/** The service returned an error or did not answer; `message` is a sentence for the reader. */
export class Refusal extends Error {
  constructor(status, problem = {}) {
    const fallback = "Something went wrong on our side. Please try again.";
    super(SENTENCES[problem.code] ?? BY_STATUS[status] ?? fallback);
    this.status = status;
    this.code = problem.code ?? null;
    this.detail = problem.detail ?? problem.title ?? null;
  }
}

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

function unique() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Browsers offer randomUUID only over HTTPS or on localhost.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join("");
}

async function send(method, url, body, headers) {
  const unsafe = method !== "GET";
  const response = await fetch(url, {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: {
      Accept: "application/json",
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(unsafe ? { "X-CSRFToken": cookie(document.body.dataset.csrfCookie) } : {}),
      ...headers,
    },
    credentials: "same-origin",
  }).catch(() => {
    throw new Refusal(0);
  });
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, answer);
  return answer;
}

/** Whether the same call may succeed a little later. */
export const mayPass = ({ status, code }) => status === 0 || status >= 502 || code === "in_progress";

async function post(url, body = {}) {
  const headers = { "Idempotency-Key": unique() };
  for (let tried = 1; ; tried += 1) {
    try {
      return await send("POST", url, body, headers);
    } catch (refusal) {
      if (!mayPass(refusal) || tried === TRIES || !navigator.onLine) throw refusal;
      await new Promise((resolve) => setTimeout(resolve, PAUSE * tried * (0.5 + Math.random())));
    }
  }
}

const conversation = (id) => `/api/conversations/${id}/`;

export const models = () => send("GET", "/api/models/");
export const conversations = (url = "/api/conversations/") => send("GET", url);
export const conversationsWith = (query) =>
  send("GET", `/api/conversations/?search=${encodeURIComponent(beginning(query, 200, 200))}`);
export const snapshot = (id) => send("GET", conversation(id));
export const earlier = (url) => send("GET", url);
export const begin = (body) => post("/api/conversations/", body);
export const say = (id, message, whenBusy) =>
  post(`${conversation(id)}messages/`, { message, when_busy: whenBusy });
export const rename = (id, title) => send("PATCH", conversation(id), { title });
export const remove = (id) => send("DELETE", conversation(id));
export const run = (id) => send("GET", `/api/runs/${id}/`);
export const cancel = (id) => post(`/api/runs/${id}/cancel/`);
export const retry = (id) => post(`/api/runs/${id}/retry/`);
export const eventsOf = (id) => `${conversation(id)}events/`;
