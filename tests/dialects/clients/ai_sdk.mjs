// Runs the AI SDK's own client for a test, which sends orders as lines of JSON: {"n", "op", …}. The
// answer to a line has the same "n". Chats have names, and last until the process ends.
import { createInterface } from 'node:readline'
import { Chat } from '@ai-sdk/react'
import { DefaultChatTransport } from 'ai'

const chats = new Map()
const TRIES = 200
console.error = () => {} // the transports log errors there from which they recover

async function transportOf({ kind, url: api, headers, prepared, body }) {
  if (kind !== 'workflow') return new DefaultChatTransport({ api, headers, body })
  const { WorkflowChatTransport } = await import('@ai-sdk/workflow/client')
  const own = (input, init) => fetch(input, { ...init, headers: { ...init?.headers, ...headers } })
  if (!prepared) return new WorkflowChatTransport({ api, fetch: own })
  return new WorkflowChatTransport({
    api,
    fetch: own,
    prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({
      headers: { 'content-type': 'application/json' },
      body: { id, messages, trigger, messageId },
    }),
  })
}

// Reconnects a page after a network error. Version 5 would append to the message that it already
// has, so its page first removes that message.
async function comeBack(page) {
  for (let tries = 0; page.chat.status === 'error' && page.broken && tries < TRIES; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 30))
    if (page.drops && page.chat.messages.at(-1)?.role === 'assistant') {
      page.chat.messages = page.chat.messages.slice(0, -1)
    }
    page.broken = false
    page.returns++
    await page.chat.resumeStream()
  }
}

const text = (message) =>
  (message?.parts ?? []).filter((part) => part.type === 'text').map((part) => part.text).join('')

function state({ chat, error, returns }) {
  return { status: chat.status, error, returns, messages: chat.messages, text: text(chat.lastMessage) }
}

const operations = {
  async open({ name, id, messages, drops, ...where }) {
    const page = { drops, error: null, broken: false, returns: 0 }
    page.chat = new Chat({
      id,
      messages,
      transport: await transportOf(where),
      onError: (error) => {
        page.error = `${error.name}: ${error.message}`
        page.broken = error instanceof TypeError
      },
    })
    chats.set(name, page)
    return {}
  },
  async send({ name, text: message, messageId, stay }) {
    const page = chats.get(name)
    page.error = null
    await page.chat.sendMessage({ text: message, messageId })
    if (!stay) await comeBack(page)
    return state(page)
  },
  async regenerate({ name, messageId }) {
    const page = chats.get(name)
    await page.chat.regenerate({ messageId })
    await comeBack(page)
    return state(page)
  },
  async resume({ name }) {
    const page = chats.get(name)
    await page.chat.resumeStream()
    await comeBack(page)
    return state(page)
  },
  async heard({ name, count }) {
    const { chat } = chats.get(name)
    while (chat.lastMessage?.role !== 'assistant' || text(chat.lastMessage).length < count) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return state(chats.get(name))
  },
  async look({ name }) {
    return state(chats.get(name))
  },
  async leave({ name }) {
    await chats.get(name).chat.stop()
    return state(chats.get(name))
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, op, ...order } = JSON.parse(line)
  operations[op](order).then(
    (result) => process.stdout.write(`${JSON.stringify({ n, ...result })}\n`),
    (error) => process.stdout.write(`${JSON.stringify({ n, fault: String(error?.stack) })}\n`),
  )
}
