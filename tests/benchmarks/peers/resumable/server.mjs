// npm resumable-stream over Redis, as its README sets it up. POST /<id> starts a reply, and its
// response is the first reader's stream. GET /<id> is for a reader that reconnects, or another one.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createResumableStreamContext } from "resumable-stream";

const context = createResumableStreamContext({ waitUntil: (promise) => promise });
const HEADERS = { "content-type": "text/event-stream", "cache-control": "no-cache" };

async function reply(message) {
  const answer = await fetch(`${process.env.OPENAI_BASE_URL}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "scripted", stream: true, messages: [{ role: "user", content: message }] }),
  });
  let rest = "";
  return answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(
    new TransformStream({
      transform(part, controller) {
        const lines = (rest + part).split("\n");
        rest = lines.pop();
        for (const line of lines.filter((line) => line.startsWith("data: "))) {
          if (line === "data: [DONE]") controller.enqueue("data: [DONE]\n\n");
          else {
            const text = JSON.parse(line.slice(6)).choices[0]?.delta.content;
            if (text) controller.enqueue(`data: ${JSON.stringify({ text })}\n\n`);
          }
        }
      },
    }),
  );
}

async function bodyOf(request) {
  let body = "";
  for await (const part of request) body += part;
  return body;
}

createServer(async (request, response) => {
  const id = request.url.slice(1);
  let stream;
  if (request.method === "POST") {
    const { message } = JSON.parse(await bodyOf(request));
    const said = await reply(message);
    stream = await context.createNewResumableStream(id, () => said);
  } else {
    stream = await context.resumeExistingStream(id);
  }
  if (!stream) {
    response.writeHead(204).end();
    return;
  }
  response.writeHead(200, HEADERS);
  response.flushHeaders();
  Readable.fromWeb(stream).pipe(response);
}).listen(Number(process.env.PORT), "127.0.0.1");
