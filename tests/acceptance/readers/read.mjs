// Reads a stream with one of the npm registry's readers until it is told that all is said, and
// prints what that reader made of it: one JSON line per event, [type, data, last event id].
//
//     node read.mjs <reader> <url> <cookies>
import { EventSource as NpmEventSource } from "eventsource";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { Agent, EventSource as UndiciEventSource } from "undici";

const EVENTS = [
  "message", "conversation.snapshot", "conversation.updated", "message.created", "run.queued",
  "run.started", "text.delta", "text.snapshot", "reasoning.delta", "run.completed",
  "run.cancelled", "run.failed", "stream-reset", "stream-error", "heartbeat",
];
const [reader, url, cookie] = process.argv.slice(2);

const tell = (type, data, id) => process.stdout.write(`${JSON.stringify([type, data, id])}\n`);

// Resolves when the source has closed for good, at a 204: a closed connection alone is tried again.
const whole = (source) =>
  new Promise((resolve) => {
    for (const type of EVENTS) {
      source.addEventListener(type, (event) => tell(event.type, event.data, event.lastEventId));
    }
    source.addEventListener("error", () => {
      if (source.readyState === 2) resolve();
    });
  });

const READERS = {
  async eventsource() {
    const withCookie = (input, init) => fetch(input, { ...init, headers: { ...init.headers, cookie } });
    await whole(new NpmEventSource(url, { fetch: withCookie }));
  },

  async "eventsource-parser"() {
    const answer = await fetch(url, { headers: { cookie } });
    const events = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    for await (const { event, data, id } of events) tell(event, data, id);
  },

  async undici() {
    const withCookie = (dispatch) => (options, handler) =>
      dispatch({ ...options, headers: { ...options.headers, cookie } }, handler);
    const dispatcher = new Agent().compose(withCookie);
    await whole(new UndiciEventSource(url, { node: { dispatcher } }));
    await dispatcher.close();
  },
};

// undici lets the process end while it waits to come back.
const awake = setInterval(() => {}, 1000);
await READERS[reader]();
clearInterval(awake);
