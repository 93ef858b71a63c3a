"""
A relay, an edge agent and an access client that follow the wire facts of http-network-relay and know nothing of ours:
asyncio and websockets, a KiB read at a time, each in a message of its own. A process each::

    python jsonparts.py relay PORT CREDENTIALS
    python jsonparts.py agent URL NAME SECRET
    python jsonparts.py client URL AGENT HOST PORT SECRET

It runs where websockets is installed, which is not here, and so imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

_READ = 1024
"""Bytes."""


def _message(kind: str, **fields: object) -> str:
    return json.dumps({"inner": {"kind": kind, **fields}})


def _data(data: bytes, **fields: object) -> str:
    return _message("tcp_data", data_base64=base64.b64encode(data).decode(), **fields)


def _inner(text: Any) -> dict[str, Any]:
    inner: dict[str, Any] = json.loads(text)["inner"]
    return inner


async def _pump(reader: asyncio.StreamReader, send: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await reader.read(_READ):
        await send(data)


async def agent(url: str, name: str, secret: str) -> None:
    """One session."""
    writers: dict[str, asyncio.StreamWriter] = {}
    tasks: set[asyncio.Task[None]] = set()
    async with connect(url, max_size=None, compression=None) as socket:
        await socket.send(_message("start", name=name, secret=secret, last_error=None))
        print("started", flush=True)

        async def serveTarget(reader: asyncio.StreamReader, connection: str) -> None:
            try:
                await _pump(reader, lambda data: socket.send(_data(data, connection_id=connection)))
            finally:
                writer = writers.pop(connection, None)
                if writer is not None:
                    writer.close()
                    text = "Connection closed by target"
                    await socket.send(_message("connection_reset", message=text, connection_id=connection))

        async def keepAlive() -> None:
            while True:
                await asyncio.sleep(10)
                await socket.send(_message("keep_alive"))

        tasks.add(asyncio.create_task(keepAlive()))
        async for text in socket:
            message = _inner(text)
            connection = message.get("connection_id", "")
            match message["kind"]:
                case "initiate_connection":
                    try:
                        reader, writers[connection] = await asyncio.open_connection(
                            message["target_ip"], message["target_port"]
                        )
                    except OSError as e:
                        await socket.send(
                            _message("initiate_connection_error", message=str(e), connection_id=connection)
                        )
                        continue
                    await socket.send(_message("initiate_connection_ok", connection_id=connection))
                    task = asyncio.create_task(serveTarget(reader, connection))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                case "tcp_data" if connection in writers:
                    writers[connection].write(base64.b64decode(message["data_base64"]))
                    await writers[connection].drain()
                case "connection_close" if connection in writers:
                    writers.pop(connection).close()


async def client(url: str, name: str, host: str, port: str, secret: str) -> None:
    """One connection, on standard input and output."""
    async with connect(url, max_size=None, compression=None) as socket:
        fields = {"connection_target": name, "target_ip": host, "target_port": int(port), "protocol": "tcp"}
        await socket.send(_message("start", **fields, secret=secret))
        answer = _inner(await socket.recv())
        if answer["kind"] != "start_ok":
            print(answer.get("message"), file=sys.stderr)
            return
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        task = asyncio.create_task(_pump(reader, lambda data: socket.send(_data(data))))
        try:
            async for text in socket:
                message = _inner(text)
                if message["kind"] == "tcp_data":
                    sys.stdout.buffer.write(base64.b64decode(message["data_base64"]))
                    sys.stdout.flush()
        except ConnectionClosed:
            pass
        task.cancel()


class _Relay:
    """
    A relay.

    @ivar agents: the WebSockets of those that are here, by their names.
    @ivar connections: what comes for each, until C{None}.
    """

    def __init__(self, credentials: dict[str, Any]) -> None:
        self._secrets = credentials["edge-agents"]
        self._clientSecrets = credentials["access-client-secrets"]
        self.agents: dict[str, Any] = {}
        self.connections: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}

    async def come(self, socket: Any) -> None:
        """A WebSocket was opened."""
        await (self._agent if socket.request.path == "/ws_for_edge_agents" else self._client)(socket)

    async def _agent(self, socket: Any) -> None:
        start = _inner(await socket.recv())
        name = start["name"]
        if self._secrets.get(name) != start["secret"] or name in self.agents:
            return
        self.agents[name] = socket
        mine: set[str] = set()
        try:
            async for text in socket:
                message = _inner(text)
                queue = self.connections.get(message.get("connection_id", ""))
                if queue is not None:
                    mine.add(message["connection_id"])
                    await queue.put(message)
        finally:
            del self.agents[name]
            for connection in mine & self.connections.keys():
                await self.connections[connection].put(None)

    async def _client(self, socket: Any) -> None:
        start = _inner(await socket.recv())
        name = start["connection_target"]
        problem = None
        if start["secret"] not in self._clientSecrets:
            problem = "Invalid access client secret"
        elif name not in self.agents:
            problem = "Agent not registered"
        if problem is not None:
            await socket.send(_message("error", message=problem))
            return
        agent, connection = self.agents[name], str(uuid.uuid4())
        queue = self.connections[connection] = asyncio.Queue(64)
        fields = {key: start[key] for key in ("target_ip", "target_port", "protocol")}
        await agent.send(_message("initiate_connection", **fields, connection_id=connection))
        answer = await queue.get()
        if answer is None or answer["kind"] != "initiate_connection_ok":
            text = "Error initiating connection: " + (answer or {}).get("message", "")
            await socket.send(_message("error", message=text))
            return
        await socket.send(_message("start_ok", connection_id=connection))

        async def up() -> None:
            async for text in socket:
                await agent.send(_data(base64.b64decode(_inner(text)["data_base64"]), connection_id=connection))
            await agent.send(_message("connection_close", message="client disconnected", connection_id=connection))

        task = asyncio.create_task(up())
        try:
            while (message := await queue.get()) is not None and message["kind"] == "tcp_data":
                await socket.send(_data(base64.b64decode(message["data_base64"]), connection_id=connection))
        finally:
            del self.connections[connection]
            task.cancel()


async def relay(port: str, credentials: str) -> None:
    """Serve until ended."""
    with open(credentials, encoding="utf-8") as file:
        served = _Relay(json.load(file))
    async with serve(served.come, "127.0.0.1", int(port), max_size=None, compression=None) as server:
        print("listening", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parts: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"agent": agent, "client": client, "relay": relay}
    asyncio.run(parts[sys.argv[1]](*sys.argv[2:]))
