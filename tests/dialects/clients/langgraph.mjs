// Runs LangGraph's client for JavaScript for a test, which sends orders as lines of JSON: {"n",
// "op", …}. The answer to a line has the same "n". The SDK's own manager adds the chunks up.
import { createInterface } from 'node:readline'
import { Client } from '@langchain/langgraph-sdk'
import { MessageTupleManager, StreamManager } from '@langchain/langgraph-sdk/ui'

const pages = new Map()
console.error = () => {} // the manager also keeps the errors that it logs there

// Does what `useStream` does around its manager. `open` begins the stream.
async function follow({ page, isReplaying }, open) {
  const told = { runId: null, ids: [], events: [] }
  const messages = new MessageTupleManager()
  const manager = new StreamManager(messages, { throttle: false })
  if (page) pages.set(page, { told, manager })
  async function* heard(stream) {
    for await (const part of stream) {
      told.ids.push(part.id)
      told.events.push(part.event)
      yield part
    }
  }
  await manager.start(async (signal) => heard(open(told, signal)), {
    getMessages: (values) => values.messages ?? [],
    setMessages: (values, messages) => ({ ...values, messages }),
    initialValues: {},
    callbacks: {},
    isReplaying,
  })
  return state({ told, manager })
}

function state({ told, manager }) {
  const { error, values } = manager
  const shown = (values?.messages ?? []).map((message) => message.toDict ? message.toDict() : message)
  return { ...told, error: error ? `${error.name}: ${error.message}` : null, messages: shown }
}

const payload = (order, told, signal) => ({
  input: { messages: order.messages },
  streamMode: order.modes,
  ifNotExists: 'create',
  multitaskStrategy: order.strategy,
  onDisconnect: order.onDisconnect,
  signal,
  onRunCreated: ({ run_id }) => (told.runId = run_id),
})

const operations = {
  ask: (client, order) =>
    follow(order, (told, signal) =>
      client.runs.stream(order.thread ?? null, 'agent', payload(order, told, signal)),
    ),
  join: (client, order) =>
    follow({ ...order, isReplaying: true }, (told, signal) =>
      client.runs.joinStream(order.thread, order.run, {
        signal,
        lastEventId: order.lastEventId ?? '-1',
        streamMode: order.modes,
      }),
    ),
  async heard(client, { page, count }) {
    while (!(pages.get(page)?.told.ids.length >= count)) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return state(pages.get(page))
  },
  async create(client, { thread }) {
    return client.threads.create({ threadId: thread, ifExists: 'do_nothing' })
  },
  async thread(client, { thread }) {
    return client.threads.get(thread)
  },
  async state(client, { thread }) {
    return client.threads.getState(thread)
  },
  async history(client, { thread }) {
    return { states: await client.threads.getHistory(thread) }
  },
  async wait(client, order) {
    return client.runs.wait(order.thread ?? null, 'agent', payload(order, {}))
  },
  async background(client, order) {
    return client.runs.create(order.thread, 'agent', payload(order, {}))
  },
  async run(client, { thread, run }) {
    return client.runs.get(thread, run)
  },
  async joined(client, { thread, run }) {
    return client.runs.join(thread, run)
  },
  async cancel(client, { thread, run, wait }) {
    await client.runs.cancel(thread, run, wait)
    return {}
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, op, apiUrl, apiKey, ...order } = JSON.parse(line)
  const client = new Client({ apiUrl, apiKey })
  operations[op](client, order)
    .then((found) => console.log(JSON.stringify({ n, ...found })))
    .catch((error) => console.log(JSON.stringify({ n, fault: `${error.name}: ${error.message}` })))
}
