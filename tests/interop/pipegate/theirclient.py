"""
A client that speaks PipeGate's dialect as C{docs/reference/protocols/pipegate.md} describes it, on what PipeGate's own is
made with: C{theirclient.py TOKEN SERVER-URL LOCAL-URL}. It says when it is connected.
"""
# mypy: disable-error-code="import-not-found"

import asyncio
import json
import sys
from typing import Any

import httpx  # in .peers only
from websockets.asyncio.client import ClientConnection, connect


async def answer(client: httpx.AsyncClient, websocket: ClientConnection, local: str, text: str | bytes) -> None:
    """Ask the application what a message asks for."""
    message: dict[str, Any] = json.loads(text)
    found = {"correlation_id": message["correlation_id"], "headers": "", "body": "", "status_code": 504}
    try:
        response = await client.request(
            message["method"],
            f"{local}/{message['url_path']}",
            params=json.loads(message["url_query"]),
            headers=json.loads(message["headers"]),
            content=message["body"],
        )
        found["headers"] = json.dumps(dict(response.headers))
        found["body"], found["status_code"] = response.text, response.status_code
    except httpx.HTTPError:
        pass
    await websocket.send(json.dumps(found))


async def main(token: str, server: str, local: str) -> None:
    """Serve until the connection ends."""
    tasks = set()
    async with (
        httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=100)) as client,
        connect(server, additional_headers={"PIPEGATE_CLIENT_TOKEN": token}) as websocket,
    ):
        print(json.dumps({"event": "connected"}), flush=True)
        async for text in websocket:
            task = asyncio.create_task(answer(client, websocket, local, text))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
