"""
A server that speaks PipeGate's dialect as C{docs/reference/protocols/pipegate.md} describes it, on what PipeGate's own is
made with: C{theirserver.py TOKEN PORT}.
"""
# mypy: allow-untyped-decorators, disable-error-code="import-not-found"

import asyncio
import json
import sys
import uuid
from collections import defaultdict
from typing import Any

import uvicorn  # in .peers only
from fastapi import FastAPI, Request, Response, WebSocket

TIMEOUT = 300

app = FastAPI()
token = ""
asked: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}


@app.api_route("/{connection}/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def visit(connection: str, path: str, request: Request) -> Response:
    """A visitor's request: a message, and what comes back."""
    identifier = uuid.uuid4()
    waiting[str(identifier)] = asyncio.get_running_loop().create_future()
    message = {
        "correlation_id": str(identifier),
        "url_path": path,
        "url_query": json.dumps(dict(request.query_params)),
        "method": request.method,
        "headers": json.dumps({**request.headers, "x-pipegate-correlation-id": identifier.hex}),
        "body": (await request.body()).decode(),
    }
    await asked[connection].put(json.dumps(message))
    try:
        answer = await asyncio.wait_for(waiting[str(identifier)], TIMEOUT)
    except TimeoutError:
        return Response("Gateway Timeout", 504)
    finally:
        del waiting[str(identifier)]
    headers = json.loads(answer["headers"]) if answer["headers"] else {}
    return Response(answer["body"].encode(), answer["status_code"], headers)


@app.websocket("/{connection}")
async def serve(connection: str, websocket: WebSocket) -> None:
    """A client."""
    if websocket.headers.get("PIPEGATE_CLIENT_TOKEN") != token:
        await websocket.close()  # before it is accepted, which is a 403
        return
    await websocket.accept()

    async def send() -> None:
        while True:
            await websocket.send_text(await asked[connection].get())

    sending = asyncio.create_task(send())
    try:
        async for text in websocket.iter_text():
            answer = json.loads(text)
            future = waiting.get(answer["correlation_id"])
            if future is not None:
                future.set_result(answer)
    finally:
        sending.cancel()


if __name__ == "__main__":
    token = sys.argv[1]
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
