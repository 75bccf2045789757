// Runs AG-UI's own client for a test, which sends orders as lines of JSON: {"n", "op", …}. The
// answer to a line has the same "n". Pages have names, and last until the process ends.
import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { HttpAgent } from '@ag-ui/client'

const pages = new Map()
const TRIES = 200
console.error = () => {} // the client's caller gets the same errors
// When a connection breaks, the caller gets the error. The client leaves a second one unhandled.
process.on('unhandledRejection', () => {})
const warned = []
console.warn = (text) => warned.push(String(text))

class Agent extends HttpAgent {
  connect(input) {
    return Object.create(this, { url: { value: `${this.url}/connect` } }).run(input)
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function tried(page, call) {
  try {
    await call()
  } catch (error) {
    page.error = { name: error.name, message: error.message, status: error.status ?? null }
  }
}

// Runs the page's run, and reconnects with the same run id until the run has ended.
async function followed(page, stay) {
  await tried(page, () => page.agent.runAgent({ runId: page.runId, forwardedProps: page.props }))
  for (let tries = 0; !stay && !page.end && !page.error?.status && tries < TRIES; tries++) {
    await pause(30)
    page.returns++
    await tried(page, () => page.agent.runAgent({ runId: page.runId, forwardedProps: page.props }))
  }
  return state(page)
}

const text = ({ messages }) =>
  messages.filter(({ role }) => role === 'assistant').map(({ content }) => content ?? '').join('')

function state({ agent, error, end, run, runId, returns, types }) {
  return { messages: agent.messages, error, end, run, runId, returns, types, warned }
}

const operations = {
  async open({ name, url, headers, threadId, messages, props }) {
    const page = { error: null, end: null, run: null, returns: 0, types: [], props }
    page.agent = new Agent({ url, headers, threadId, initialMessages: messages })
    page.agent.subscribe({
      onEvent: ({ event }) => {
        if (event.type.startsWith('RUN_') || event.type === 'MESSAGES_SNAPSHOT') {
          page.types.push(event.type)
        }
      },
      onRunStartedEvent: ({ event }) => {
        page.run = event.metadata?.run ?? null
        page.runId = event.runId
      },
      onRunFinishedEvent: ({ event }) => {
        page.end = event
      },
      onRunErrorEvent: ({ event }) => {
        if (event.code !== 'abort') page.end = event
      },
    })
    pages.set(name, page)
    return {}
  },
  async send({ name, text: content, runId, stay }) {
    const page = pages.get(name)
    Object.assign(page, { error: null, end: null, runId: runId ?? randomUUID(), types: [] })
    page.agent.addMessage({ id: randomUUID(), role: 'user', content })
    return followed(page, stay)
  },
  async regenerate({ name }) {
    const page = pages.get(name)
    const last = page.agent.messages.findLastIndex(({ role }) => role === 'user')
    page.agent.setMessages(page.agent.messages.slice(0, last + 1))
    Object.assign(page, { error: null, end: null, runId: randomUUID(), types: [] })
    return followed(page)
  },
  async join({ name }) {
    return followed(pages.get(name))
  },
  // If the connection breaks, the page joins the run if it knows the run, or else connects again.
  async connect({ name, stay }) {
    const page = pages.get(name)
    Object.assign(page, { error: null, end: null, types: [] })
    await tried(page, () => page.agent.connectAgent())
    for (let tries = 0; !stay && !page.run && page.error && tries < TRIES; tries++) {
      if (page.error.status) break
      page.error = null
      await pause(30)
      await tried(page, () => page.agent.connectAgent())
    }
    return page.end || page.error?.status || stay ? state(page) : followed(page)
  },
  async heard({ name, count }) {
    const page = pages.get(name)
    while (text(page.agent).length < count) await pause(10)
    return state(page)
  },
  async abort({ name }) {
    pages.get(name).agent.abortRun()
    return {}
  },
  async look({ name }) {
    return state(pages.get(name))
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, op, ...order } = JSON.parse(line)
  operations[op](order).then(
    (result) => process.stdout.write(`${JSON.stringify({ n, ...result })}\n`),
    (error) => process.stdout.write(`${JSON.stringify({ n, fault: String(error?.stack) })}\n`),
  )
}
