"""A server of OpenAI's completions that answers at once, for endpoint.py: it costs as little as it can.

    python benchmarks/endpoint_server.py PORT CHUNKS

It gives vLLM's answers with token ids: the first token in a chunk of its own, the others in CHUNKS - 1 more;
an answer without `stream` in one piece. The words of the request are not read but for `"stream":true`.
"""

from __future__ import annotations

import asyncio
import json
import sys

TOKENS = 128
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n"
STREAM = HEAD % b"text/event-stream" + b"transfer-encoding: chunked\r\n\r\n"
ABSENT = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
MODELS = {"object": "list", "data": [{"id": "fake", "object": "model", "max_model_len": 4096}]}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(content: object) -> bytes:
    body = json.dumps(content).encode()
    return HEAD % b"application/json" + b"content-length: %d\r\n\r\n%s" % (len(body), body)


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 895, "completion_tokens": tokens, "total_tokens": 895 + tokens}


def choice(tokens: int, last: bool) -> dict[str, object]:
    return {
        "index": 0,
        "text": " word" * tokens,
        "token_ids": [1234] * tokens,
        "finish_reason": "length" if last else None,
    }


def event(choices: list[dict[str, object]], counts: dict[str, int] | None = None) -> bytes:
    message = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "fake", "choices": choices}
    return chunk(b"data: " + json.dumps({**message, "usage": counts}).encode() + b"\n\n")


def streamed(chunks: int, tokens: int) -> tuple[bytes, bytes]:
    """The first chunk, and all that follow."""
    sizes = [1] * (chunks - 1) + [tokens - chunks + 1]
    events = [event([choice(size, n == chunks - 1)]) for n, size in enumerate(sizes)]
    end = event([], usage(tokens)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return STREAM + events[0], b"".join(events[1:]) + end


class Connection(asyncio.Protocol):
    """Answers each request as soon as it is there whole."""

    def __init__(self, chunks: int) -> None:
        self._first, self._rest = streamed(chunks, TOKENS)
        self._answer = whole({"model": "fake", "choices": [choice(TOKENS, True)], "usage": usage(TOKENS)})
        self._short = whole({"model": "fake", "choices": [choice(4, True)], "usage": usage(4)})
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + size:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            del self._buffer[: end + 4 + size]
            self._respond(head, body)

    def _respond(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path == b"/v1/completions":
            if b'"stream":true' in body.replace(b" ", b""):
                self._transport.write(self._first)
                asyncio.get_running_loop().call_soon(self._transport.write, self._rest)
            else:
                self._transport.write(self._short if b'"max_tokens":4,' in body else self._answer)
        elif path in (b"/v1/models", b"/health"):
            self._transport.write(whole(MODELS))
        else:
            self._transport.write(ABSENT)


async def main(port: int, chunks: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(chunks), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
