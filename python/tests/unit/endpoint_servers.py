"""Stand-in servers of each dialect on loopback, each with at most one fault."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from mlperf_llama.engine import Limits

VOCABULARY = 128256
Body = Mapping[str, object]
VLLM, VLLM_TOKENS, SGLANG, TENSORRT, TEXT = "vllm", "vllm-tokens", "sglang", "tensorrt", "text"
PATHS = {
    VLLM: "/v1/completions",
    VLLM_TOKENS: "/inference/v1/generate",
    SGLANG: "/generate",
    TENSORRT: "/v1/completions",
    TEXT: "/v1/completions",
}


@dataclass
class StandIn:
    """`kind`: the dialect. The other fields, each a fault or a habit: `fault` by name; `fail_at`: the first
    request (from 0) that it applies to; `refuse`: fields of a request that are answered with 400."""

    kind: str
    fault: str = ""
    fail_at: int = 0
    fail_count: int = 10**9
    key: str = ""
    metrics: str = ""
    cached_tokens: int | None = None
    refuse: tuple[str, ...] = ()
    usage: bool = True
    incremental: bool = False
    vocabulary: int = VOCABULARY
    asked: list[Body] = field(default_factory=list)

    def faulty(self, name: str) -> bool:
        number = len(self.asked) - 1
        return self.fault == name and self.fail_at <= number < self.fail_at + self.fail_count


def answer_to(prompt: Sequence[int], limits: Limits, vocabulary: int = VOCABULARY) -> list[int]:
    """The ids that every healthy stand-in gives: they follow from the prompt."""
    draw = random.Random(str(list(prompt)))
    count = max(limits.min_new_tokens, limits.max_new_tokens - draw.randrange(3) if limits.stop_ids else 128)
    count = min(count, limits.max_new_tokens)
    ids = [draw.randrange(300, vocabulary) for _ in range(count)]
    return ids if count == limits.max_new_tokens else [*ids[:-1], limits.stop_ids[0]]


def _asked(kind: str, body: Body) -> tuple[list[int], Limits, bool]:
    parameters = body.get("sampling_params", body)
    assert isinstance(parameters, dict)
    prompt = body[{SGLANG: "input_ids", VLLM_TOKENS: "token_ids"}.get(kind, "prompt")]
    most = parameters["max_new_tokens" if kind == SGLANG else "max_tokens"]
    least = parameters.get("min_new_tokens" if kind == SGLANG else "min_tokens", 1)
    stops = () if parameters.get("ignore_eos", True) else tuple(parameters["stop_token_ids"])
    assert isinstance(prompt, list)
    return prompt, Limits(most, least, stops), bool(body.get("stream"))


def _usage(server: StandIn, prompt: Sequence[int], ids: Sequence[int]) -> dict[str, object]:
    details = {} if server.cached_tokens is None else {"cached_tokens": server.cached_tokens}
    count = len(prompt) + (server.fault == "prompt cut")
    return {
        "prompt_tokens": count,
        "completion_tokens": len(ids),
        "prompt_tokens_details": details or None,
    }


def _parts(server: StandIn, prompt: list[int], ids: list[int]) -> list[dict[str, object]]:
    """The chunks of an answer: the first token, the rest, the usage."""
    if server.kind == SGLANG:
        made = []
        for end in (1, len(ids)):
            meta: dict[str, object] = {
                "prompt_tokens": len(prompt),
                "completion_tokens": end,
                "finish_reason": {"type": "length"} if end == len(ids) and made else None,
            }
            if server.cached_tokens is not None:
                meta["cached_tokens"] = server.cached_tokens
            start = 1 if server.incremental and made else 0
            made.append({"text": "words", "output_ids": ids[start:end], "meta_info": meta})
        return made
    chunks: list[dict[str, object]] = []
    echoed = [1, *prompt] if server.fault == "other prompt" else prompt
    for part, reason in ((ids[:1], None), (ids[1:], "length")):
        choice: dict[str, object] = {"index": 0, "finish_reason": reason}
        if server.kind != VLLM_TOKENS:
            choice["text"] = "" if server.kind == TENSORRT else "word"
        if server.kind != TEXT:
            choice["token_ids"] = part
        if server.kind == VLLM and not chunks:
            choice["prompt_token_ids"] = echoed
        chunks.append({"id": "1", "choices": [choice], "usage": None})
    if server.usage:
        chunks.append({"id": "1", "choices": [], "usage": _usage(server, prompt, ids)})
    return chunks


def _whole(server: StandIn, prompt: list[int], ids: list[int]) -> dict[str, object]:
    parts = _parts(server, prompt, ids)
    if server.kind == SGLANG:
        return {**parts[-1], "output_ids": ids}
    choice: dict[str, object] = {}
    for part in parts:
        for one in part["choices"]:  # type: ignore[attr-defined]
            choice.update(one)
    if server.kind != TEXT:
        choice["token_ids"] = ids
    return {**parts[0], "choices": [choice], "usage": parts[-1]["usage"]}


async def _generate(server: StandIn, request: web.Request) -> web.StreamResponse:
    body = json.loads(await request.read())
    server.asked.append(body)
    parameters = body.get("sampling_params", body)
    if any(name in parameters for name in server.refuse):
        return web.json_response({"error": {"message": "extra fields not permitted"}}, status=400)
    for status in (429, 500, 503):
        if server.faulty(f"status {status}"):
            return web.Response(
                status=status, text="CUDA error: device-side assert", headers={"Retry-After": "0"}
            )
    if server.faulty("slow headers"):
        await asyncio.sleep(60)
    prompt, limits, streaming = _asked(server.kind, body)
    ids = answer_to(prompt, limits, server.vocabulary)
    if server.fault == "samples":
        ids[0] = 300 + len(server.asked)
    if server.fault == "129 tokens" and len(ids) > 4:
        ids.append(321)
    if server.faulty("wrong ids"):
        ids[1] = VOCABULARY
    if not streaming and not server.faulty("invalid UTF-8"):
        return web.json_response(_whole(server, prompt, ids))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    parts = _parts(server, prompt, ids)
    for part in parts:
        data = json.dumps(part).encode()
        if server.faulty("invalid UTF-8"):
            data = data.replace(b"word", b"\xff\xfe").replace(b"[", b"\xff[", 1)
        await response.write(b"data: " + data + b"\n\n")
        if server.faulty("cut stream"):
            assert request.transport
            request.transport.abort()
            return response
        await asyncio.sleep(0)
    await response.write(b"data: [DONE]\n\n")
    return response


def _application(server: StandIn) -> web.Application:
    def protected(
        handler: Callable[[StandIn, web.Request], object],
    ) -> Callable[[web.Request], object]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if server.key and request.headers.get("Authorization") != f"Bearer {server.key}":
                sent = request.headers.get("Authorization", "")
                return web.json_response({"error": f"no access with {sent}"}, status=401)
            return await handler(server, request)  # type: ignore[misc, no-any-return]

        return handle

    async def models(server: StandIn, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "llama", "max_model_len": 2668}]})

    async def version(server: StandIn, request: web.Request) -> web.Response:
        return web.json_response({"version": "1.2.3"})

    async def metrics(server: StandIn, request: web.Request) -> web.Response:
        return web.Response(text=server.metrics.replace("ASKED", str(len(server.asked))))

    application = web.Application()
    application.router.add_get("/v1/models", protected(models))  # type: ignore[arg-type]
    application.router.add_get("/version", protected(version))  # type: ignore[arg-type]
    application.router.add_get("/metrics", protected(metrics))  # type: ignore[arg-type]
    application.router.add_post(PATHS[server.kind], protected(_generate))  # type: ignore[arg-type]
    return application


@asynccontextmanager
async def serving(server: StandIn) -> AsyncIterator[str]:
    """Its address."""
    runner = web.AppRunner(_application(server), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
