// Runs OpenAI's client for Node for a test, which sends orders as lines of JSON: {"n", "op", …}.
// The answer to a line has the same "n".
import { createInterface } from 'node:readline'
import OpenAI from 'openai'

const TRIES = 200
const ENDINGS = ['response.completed', 'response.failed', 'response.incomplete']

// A developer's plain loop: it adds up deltas, keeps the last sequence number, and reconnects.
async function loop(client, { body, id: known }) {
  const told = { id: known ?? null, numbers: [], texts: new Map(), final: null, returns: 0 }
  const comeBack = () => {
    const last = told.numbers.at(-1)
    return client.responses.retrieve(told.id, { stream: true, starting_after: last })
  }
  let open = known ? comeBack : () => client.responses.create({ ...body, stream: true })
  for (let tries = 0; tries < TRIES && !told.final; tries++) {
    try {
      for await (const event of await open()) read(told, event)
    } catch (error) {
      if (!told.id) throw error
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    if (!told.final) told.returns++
    open = comeBack
  }
  const { id, numbers, final, returns } = told
  const text = [...told.texts.values()].join('')
  return { id, numbers, returns, text, status: final.status, output: final.output_text ?? shown(final) }
}

function read(told, event) {
  told.numbers.push(event.sequence_number)
  if (event.type === 'response.created') told.id = event.response.id
  else if (event.type === 'response.output_text.delta') {
    told.texts.set(event.item_id, (told.texts.get(event.item_id) ?? '') + event.delta)
  } else if (event.type === 'response.output_item.done') {
    if (event.item.status === 'incomplete' && !event.item.content?.length) {
      told.texts.delete(event.item.id)
    }
  } else if (ENDINGS.includes(event.type)) told.final = event.response
}

const shown = (response) =>
  response.output
    .filter((item) => item.type === 'message')
    .flatMap((item) => item.content.map((part) => part.text))
    .join('')

const operations = {
  loop,
  // The SDK's own accumulator, for a new response or an existing one.
  async accumulate(client, { params }) {
    const response = await client.responses.stream(params).finalResponse()
    return { id: response.id, status: response.status, text: shown(response) }
  },
  async chat(client, { body }) {
    const whole = await client.chat.completions.create(body)
    return { id: whole.id, text: whole.choices[0].message.content }
  },
  async chatStream(client, { body }) {
    const runner = client.chat.completions.stream(body)
    const whole = await runner.finalChatCompletion()
    return { id: whole.id, text: whole.choices[0].message.content }
  },
  async models(client) {
    const names = []
    for await (const model of client.models.list()) names.push(model.id)
    return { names }
  },
  async cancel(client, { id }) {
    return { status: (await client.responses.cancel(id)).status }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, op, baseURL, apiKey, retries, ...order } = JSON.parse(line)
  const client = new OpenAI({ baseURL, apiKey, maxRetries: retries ?? 0 })
  operations[op](client, order)
    .then((found) => console.log(JSON.stringify({ n, ...found })))
    .catch((error) => console.log(JSON.stringify({ n, fault: `${error.name}: ${error.message}` })))
}
