// Reads streams with an event stream client from npm, until each stream answers 204. Prints a JSON
// line for each event that the client reports: [type, data, last event id, index of the URL].
//
//     node read.mjs <reader> <cookies> <url>...
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource as NpmEventSource } from "eventsource";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { Agent, EventSource as UndiciEventSource } from "undici";

const EVENTS = [
  "message", "conversation.snapshot", "conversation.updated", "message.created", "run.queued",
  "run.started", "text.delta", "text.snapshot", "reasoning.delta", "run.completed",
  "run.cancelled", "run.failed", "stream-reset", "stream-error", "heartbeat",
];
const [reader, cookie, ...urls] = process.argv.slice(2);
const AT_ONCE = 200; // streams; some clients wait a second or more before they reconnect

// Resolves when the source has closed for good, after a 204. After a lost connection it reconnects.
const whole = (source, tell) =>
  new Promise((resolve) => {
    for (const type of EVENTS) {
      source.addEventListener(type, (event) => tell(event.type, event.data, event.lastEventId));
    }
    source.addEventListener("error", () => {
      if (source.readyState === 2) resolve();
    });
  });

// A 204 has no body, which event-source-polyfill mistakes for a lost connection, so it reconnects.
// It regards a response that is not an event stream as the end.
const plainFetch = globalThis.fetch;
const fetchToTheEnd = async (input, init) => {
  const answer = await plainFetch(input, init);
  return answer.status === 204 ? new Response("over") : answer;
};

const READERS = {
  async eventsource(url, tell) {
    const withCookie = (input, init) => fetch(input, { ...init, headers: { ...init.headers, cookie } });
    await whole(new NpmEventSource(url, { fetch: withCookie }), tell);
  },

  async "eventsource-parser"(url, tell) {
    const answer = await fetch(url, { headers: { cookie } });
    const events = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    for await (const { event, data, id } of events) tell(event, data, id);
  },

  async "event-source-polyfill"(url, tell) {
    const { EventSourcePolyfill } = (await import("event-source-polyfill")).default;
    await whole(new EventSourcePolyfill(url, { headers: { cookie } }), tell);
  },

  async "fetch-event-source"(url, tell) {
    const over = new AbortController();
    await fetchEventSource(url, {
      headers: { cookie },
      signal: over.signal,
      openWhenHidden: true,
      onopen: async ({ status }) => {
        if (status === 204) over.abort();
      },
      onmessage: ({ event, data, id }) => tell(event, data, id),
      onclose: () => {
        if (!over.signal.aborted) throw new Error("come back");
      },
    });
  },

  async undici(url, tell) {
    const withCookie = (dispatch) => (options, handler) =>
      dispatch({ ...options, headers: { ...options.headers, cookie } }, handler);
    const dispatcher = new Agent().compose(withCookie);
    await whole(new UndiciEventSource(url, { node: { dispatcher } }), tell);
    await dispatcher.close();
  },
};

if (reader === "fetch-event-source") { // it needs a page's globals
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
}
if (reader === "event-source-polyfill") globalThis.fetch = fetchToTheEnd;

// undici would let the process end while it waits to reconnect.
const awake = setInterval(() => {}, 1000);
const waiting = urls.entries();
const read = async () => {
  for (const [which, url] of waiting) {
    await READERS[reader](url, (type, data, id) =>
      process.stdout.write(`${JSON.stringify([type, data, id, which])}\n`));
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, read));
clearInterval(awake);
