"""
Both ends of gRPC, as its own library makes them, with messages of plain bytes: a server that echoes, and its visitor.

Run with the Python that has grpcio, as C{grpcends.py serve PORT} or C{grpcends.py visit PORT NAME AUTHORITY}; the
visitor prints a JSON object with what became of each of its calls.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # in .peers only

SERVICE = "gateway.test.Echo"
BIG = 3 * 1024 * 1024
SECONDS = 20


def unary(message: bytes, context: Any) -> bytes:
    """Say it again, with the caller's metadata."""
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-early", sent.get("x-word", "")),))
    context.set_trailing_metadata((("x-late-bin", b"\0\1\2"), ("x-late", "and goodbye")))
    return message


def fails(message: bytes, context: Any) -> bytes:
    """Refuse."""
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 100 % not ✓")
    return b""


def collects(messages: Iterator[bytes], context: Any) -> bytes:
    """Count what comes."""
    return b"%d" % sum(map(len, messages))


def repeats(message: bytes, context: Any) -> Iterator[bytes]:
    """Say it as often as it says."""
    for _ in range(int(message)):
        yield message


def converses(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
    """Answer each as it comes."""
    for message in messages:
        yield message.upper()


def serve(port: str) -> None:
    """Serve until the process is ended."""
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fails": grpc.unary_unary_rpc_method_handler(fails),
        "Collects": grpc.stream_unary_rpc_method_handler(collects),
        "Repeats": grpc.unary_stream_rpc_method_handler(repeats),
        "Converses": grpc.stream_stream_rpc_method_handler(converses),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def visit(port: str, name: str, authority: str) -> dict[str, object]:
    """Make one call of each kind, and one that fails."""
    options = (("grpc.ssl_target_name_override", name), ("grpc.default_authority", f"{name}:{port}"))
    credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes())
    found: dict[str, object] = {}
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:

        def method(kind: Callable[[str], Any], called: str) -> Any:
            return kind(f"/{SERVICE}/{called}")

        say = method(channel.unary_unary, "Unary")
        answer, call = say.with_call(b"hello", metadata=(("x-word", "first"),), timeout=SECONDS)
        found["unary"] = answer.decode()
        found["early"] = dict(call.initial_metadata())["x-early"]
        trailing = dict(call.trailing_metadata())
        found["late"] = [trailing["x-late"], list(trailing["x-late-bin"])]
        found["big"] = say(bytes(BIG), timeout=SECONDS) == bytes(BIG)
        try:
            method(channel.unary_unary, "Fails")(b"", timeout=SECONDS)
        except grpc.RpcError as e:
            found["fails"] = [e.code().name, e.details()]
        try:
            method(channel.unary_unary, "Missing")(b"", timeout=SECONDS)
        except grpc.RpcError as e:
            found["missing"] = e.code().name
        found["collects"] = int(method(channel.stream_unary, "Collects")(iter([bytes(65536)] * 100), timeout=SECONDS))
        found["repeats"] = len(list(method(channel.unary_stream, "Repeats")(b"1000", timeout=SECONDS)))
        found["converses"] = _converse(method(channel.stream_stream, "Converses"))
        cancelled = method(channel.unary_stream, "Repeats")(b"1000000000", timeout=SECONDS)
        next(cancelled)
        found["cancelled"] = cancelled.cancel()
        found["after"] = say(b"still there", timeout=SECONDS).decode()
    return found


def _converse(method: Any) -> list[str]:
    """Say the next thing only when the last one was answered."""
    answers: list[str] = []
    answered = threading.Semaphore(1)

    def words() -> Iterator[bytes]:
        for word in (b"one", b"two", b"three"):
            answered.acquire()
            yield word

    for answer in method(words(), timeout=SECONDS):
        answers.append(answer.decode())
        answered.release()
    return answers


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        print(json.dumps(visit(*sys.argv[2:])))
