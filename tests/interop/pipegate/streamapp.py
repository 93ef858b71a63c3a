"""
An application of what no message has a place for: a WebSocket that echoes, a clock of server-sent events, and files as
large as one likes; C{streamapp.py PORT}, or C{streamapp.py PORT CERTIFICATE KEY} with TLS.
"""
# mypy: allow-untyped-decorators, disable-error-code="import-not-found"

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator

import uvicorn  # in .peers only
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse

MIB = 1024 * 1024

app = FastAPI()

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Streams</title>
<script>
async function result() {
  const socket = new WebSocket(new URL('ws', location.href.replace(/^http/, 'ws')));
  const echo = new Promise(resolve => { socket.onmessage = event => resolve(event.data) });
  await new Promise(resolve => { socket.onopen = resolve });
  socket.send('over there');
  const clock = new EventSource('clock');
  const ticks = [];
  const told = new Promise(resolve => {
    clock.onmessage = event => { ticks.push(event.data); if (ticks.length == 3) { clock.close(); resolve(ticks) } };
  });
  return {echo: await echo, ticks: await told, path: location.pathname};
}
</script>
"""


def noise(number: int) -> bytes:
    """A MiB like no other."""
    return hashlib.sha256(str(number).encode()).digest() * (MIB // 32)


@app.get("/", response_class=HTMLResponse)
def page() -> str:
    """What a browser runs."""
    return PAGE


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Say it again."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.get("/clock")
async def clock() -> StreamingResponse:
    """A tick every tenth of a second."""

    async def ticks() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(0.1)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/file/{size}")
async def download(size: int) -> StreamingResponse:
    """So many MiB, without saying how many."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(size):
            yield noise(number)

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.post("/file")
async def upload(request: Request) -> dict[str, object]:
    """What came, by its size and sum."""
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sum": digest.hexdigest()}


@app.get("/text/{size}")
async def text(size: int) -> StreamingResponse:
    """So many bytes of text."""
    return StreamingResponse(iter(["x" * size]), media_type="text/plain", headers={"Content-Length": str(size)})


if __name__ == "__main__":
    certificate, key = sys.argv[2:] or (None, None)
    port = int(sys.argv[1])
    uvicorn.run(app, host="127.0.0.1", port=port, ssl_certfile=certificate, ssl_keyfile=key, log_level="warning")
