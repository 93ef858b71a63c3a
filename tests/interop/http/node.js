// A web server that does what plain files do not, on Node's own http module: streams that nobody may hold back, answers
// that wait, trailers, hints, WebSockets, and a page for a browser. Run as: node node.js PORT ASSETS
'use strict'
const crypto = require('node:crypto')
const http = require('node:http')

const port = Number(process.argv[2])
const assets = Number(process.argv[3])
const events = new Set()
let polls = []

const places = {
  '/': (request, response) => {
    response.setHeader('content-type', 'text/html')
    response.end(page())
  },
  // Each caller gets an event at once, and one for each poke.
  '/events': (request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.write('data: hello\n\n')
    events.add(response)
    response.on('close', () => events.delete(response))
  },
  '/poll': (request, response) => polls.push(response),
  '/poke': (request, response) => {
    for (const each of events) each.write('data: poked\n\n')
    for (const each of polls) each.end('poked')
    response.end(`${events.size} ${polls.length}`)
    polls = []
  },
  '/seen': (request, response) => response.end(JSON.stringify({ url: request.url, fields: request.rawHeaders })),
  '/nothing': (request, response) => response.writeHead(204).end(),
  '/echo': (request, response) => request.pipe(response),
  '/sum': (request, response) => {
    const hash = crypto.createHash('sha256')
    request.on('data', (data) => hash.update(data))
    request.on('end', () => {
      response.writeHead(200, { trailer: 'x-sum' })
      response.write('see below')
      response.addTrailers({ 'x-sum': hash.digest('hex') })
      response.end()
    })
  },
  '/hints': (request, response) => {
    response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' })
    response.end('hinted')
  },
  '/breaks': (request, response) => {
    response.writeHead(200, { 'content-length': '1000' })
    response.write('not all of it', () => response.destroy())
  },
}

function page () {
  const script = (number) => `<script async src="/asset/${number}.js"></script>`
  const image = (number) => `<img src="/asset/${number}.svg">`
  const numbers = [...Array(assets / 2).keys()]
  return `<!doctype html><title>Assets</title><script>
    const got = new Set()
    async function result () {
      if (document.readyState !== 'complete') await new Promise((resolve) => addEventListener('load', resolve))
      const stream = new WebSocket('/ws'.replace(/^/, location.origin.replace(/^http/, 'ws')))
      const echo = await new Promise((resolve, reject) => {
        stream.onopen = () => stream.send('over there')
        stream.onmessage = (event) => resolve(event.data)
        stream.onerror = reject
      })
      stream.close()
      const source = new EventSource('/events')
      const events = []
      await new Promise((resolve, reject) => {
        source.onerror = reject
        source.onmessage = (event) => {
          events.push(event.data)
          if (events.length === 1) fetch('/poke', { method: 'POST' })
          else resolve()
        }
      })
      source.close()
      const protocols = performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol)
      return {
        scripts: got.size,
        images: [...document.images].filter((image) => image.naturalWidth > 0).length,
        protocols: [...new Set(protocols)],
        echo,
        events
      }
    }
  </script>${numbers.map(script).join('')}${numbers.map(image).join('')}`
}

function asset (name, response) {
  const [number, kind] = name.split('.')
  const padding = 'x'.repeat(Number(number) ** 2 * 10)
  if (kind === 'js') response.setHeader('content-type', 'text/javascript').end(`got.add(${number}) // ${padding}`)
  else response.setHeader('content-type', 'image/svg+xml').end(
    `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><!-- ${padding} --></svg>`)
}

function answer (request, response) {
  const path = request.url.split('?')[0]
  if (path.startsWith('/asset/')) return asset(path.slice(7), response)
  const place = places[path]
  if (place) return place(request, response)
  response.writeHead(404).end()
}

const server = http.createServer(answer)

// Who waits for a 100 gets one, or a no, before anything of the body was sent.
server.on('checkContinue', (request, response) => {
  if (request.url === '/refused') return response.writeHead(403, { connection: 'close' }).end('not here')
  response.writeContinue()
  answer(request, response)
})

// RFC 6455, as far as an echo needs it: messages of at most 64 KiB, each in a frame.
server.on('upgrade', (request, socket, head) => {
  if (request.url !== '/ws') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nConnection: close\r\n\r\nnot here')
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
  const accept = crypto.createHash('sha1').update(key).digest('base64')
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    `Sec-WebSocket-Accept: ${accept}\r\n\r\n`)
  let rest = head
  const take = (data) => {
    rest = Buffer.concat([rest, data])
    for (;;) {
      if (rest.length < 4) return
      const long = (rest[1] & 127) === 126
      const start = long ? 8 : 6
      const size = long ? rest.readUInt16BE(2) : rest[1] & 127
      if (rest.length < start + size) return
      const payload = Buffer.from(rest.subarray(start, start + size)).map((byte, i) => byte ^ rest[start - 4 + (i & 3)])
      const opening = Buffer.from(rest.subarray(0, start - 4))
      opening[1] &= 127
      socket.write(Buffer.concat([opening, payload]))
      if ((opening[0] & 15) === 8) return socket.end()
      rest = rest.subarray(start + size)
    }
  }
  socket.on('data', take)
  socket.on('error', () => {})
  take(Buffer.alloc(0))
})

server.listen(port, '127.0.0.1')
