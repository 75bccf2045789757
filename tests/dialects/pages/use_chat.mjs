// A small page with useChat: it asks, follows, reconnects itself after a network error, and stops.
// The chat's id is in the URL. `React.createElement` instead of JSX, so that the file is plain JS.
import { useChat } from '@ai-sdk/react'
import { DefaultChatTransport } from 'ai'
import { createElement as h, useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'

const id = new URLSearchParams(location.search).get('chat')
const csrftoken = document.cookie.match(/csrftoken=([^;]+)/)[1]
const headers = { 'X-CSRFToken': csrftoken, 'x-ai-sdk-version': '7' }
const transport = new DefaultChatTransport({ api: '/api/chat', headers })

async function load() {
  const answer = await fetch(`/api/chat/${id}/messages`)
  return answer.ok ? answer.json() : []
}

function Chat({ earlier }) {
  const [text, setText] = useState('')
  const { messages, sendMessage, status, error, resumeStream } = useChat({
    id,
    transport,
    messages: earlier,
    resume: true,
  })
  const isBroken = status === 'error' && error instanceof TypeError
  useEffect(() => {
    if (!isBroken) return
    const timer = setTimeout(resumeStream, 200)
    return () => clearTimeout(timer)
  }, [isBroken, error, resumeStream])
  const send = (event) => {
    event.preventDefault()
    sendMessage({ text })
    setText('')
  }
  const stop = () => fetch(`/api/chat/${id}/stop`, { method: 'POST', headers })
  return h(
    'main',
    { 'data-status': status },
    messages.map((message) =>
      h(
        'article',
        { key: message.id, id: message.id, className: message.role },
        message.parts
          .filter((part) => part.type === 'text')
          .map((part, place) => h('p', { key: place }, part.text)),
      ),
    ),
    error && !isBroken && h('output', null, error.message),
    h(
      'form',
      { onSubmit: send },
      h('input', { value: text, onChange: (event) => setText(event.target.value) }),
      h('button', { type: 'button', onClick: stop }, 'Stop'),
    ),
  )
}

createRoot(document.body).render(h(Chat, { earlier: await load() }))
