"""Servers as the engine: every dialect is probed rightly, and every fault is named and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from endpoint_servers import (
    SGLANG,
    TENSORRT,
    TEXT,
    VLLM,
    VLLM_TOKENS,
    VOCABULARY,
    StandIn,
    answer_to,
    serving,
)
from engine_contract import CHECKS, Collector, answer, requests
from loadgen_support import LIMITS

from mlperf_llama.engine import EngineInfo, Limits
from mlperf_llama.engine.endpoint import EndpointEngine, Patience
from mlperf_llama.errors import BrokeError, MissingError
from mlperf_llama.records.schema import ProbedServer

KINDS = (VLLM, VLLM_TOKENS, SGLANG, TENSORRT)
FULL = Limits(128, 128, ())
SHORT = Patience(connect_s=2, probe_s=0.4, silence_s=0.4, tries=4, pause_s=0.001)
OFF = 'vllm:cache_config_info{block_size="16",enable_prefix_caching="False"} 1.0\n'
ON = OFF.replace("False", "True")
HITS = 'vllm:prefix_cache_hits_total{engine="0"} ASKED\n'


def server_of(kind: str, **given: object) -> StandIn:
    """A stand-in as its original is: TensorRT-LLM forbids fields that it does not know."""
    refuse = ("return_token_ids", "stream_interval") if kind == TENSORRT else ()
    return StandIn(kind, **{"refuse": refuse, "metrics": OFF, **given})  # type: ignore[arg-type]


@asynccontextmanager
async def engine_of(
    *servers: StandIn, key: str | None = None, seats: int | None = None
) -> AsyncIterator[EndpointEngine]:
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(server)) for server in servers]
        engine = EndpointEngine(urls, FULL, VOCABULARY, key=key, seats=seats, patience=SHORT)
        stack.push_async_callback(engine.close)
        yield engine


def probed(server: StandIn, key: str | None = None) -> tuple[ProbedServer, EngineInfo]:
    async def body() -> tuple[ProbedServer, EngineInfo]:
        async with engine_of(server, key=key) as engine:
            info = await engine.start(lambda text: None)
            return engine.servers[0].probed, info

    return asyncio.run(body())


def failure(server: StandIn, key: str | None = None) -> BaseException:
    async def body() -> BaseException:
        async with engine_of(server, key=key) as engine:
            with pytest.raises((BrokeError, MissingError)) as caught:
                await engine.start(lambda text: None)
            return caught.value

    return asyncio.run(body())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_the_contract_of_engines(kind: str, check: object) -> None:
    async def body() -> None:
        async with engine_of(server_of(kind)) as engine:
            await engine.start(lambda text: None)
            await check(engine)  # type: ignore[operator]

    asyncio.run(body())


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        (VLLM, "vLLM /v1/completions with token ids"),
        (VLLM_TOKENS, "vLLM /inference/v1/generate"),
        (SGLANG, "SGLang /generate"),
        (TENSORRT, "TensorRT-LLM /v1/completions with token ids"),
    ],
)
def test_a_healthy_server_is_told_by_its_dialect(kind: str, dialect: str) -> None:
    probe, info = probed(server_of(kind))
    assert (probe.dialect, probe.version, probe.model) == (dialect, "1.2.3", "llama")
    assert (probe.ids_in, probe.ids_out, probe.greedy, probe.streams) == (True, True, True, True)
    assert (probe.prefix_cache, probe.most_tokens, probe.limit_tokens) == (False, 128, 128)
    assert (info.name, info.settings["enable_prefix_caching"]) == ("endpoint", False)
    assert info.version == f"{dialect.split()[0]} 1.2.3"


def test_an_older_server_is_asked_without_what_it_does_not_know() -> None:
    server = server_of(VLLM, refuse=("stream_interval",))
    probe, _ = probed(server)
    assert probe.ids_out
    assert all("stream_interval" not in body for body in server.asked[-2:])


def test_sglang_s_incremental_streaming_gives_the_same_ids() -> None:
    async def body(incremental: bool) -> list[int]:
        async with engine_of(server_of(SGLANG, incremental=incremental)) as engine:
            await engine.start(lambda text: None)
            return (await answer(engine, requests(1), LIMITS, True)).answers[0]

    assert asyncio.run(body(False)) == asyncio.run(body(True)) == answer_to(requests(1)[0].prompt, LIMITS)


@pytest.mark.parametrize(
    ("given", "cache", "word"),
    [
        ({"metrics": ON}, True, "/metrics says that it is on"),
        ({"metrics": OFF}, False, "/metrics says that it is off"),
        ({"metrics": HITS}, True, "/metrics counted 2 reused tokens"),
        ({"metrics": OFF, "cached_tokens": 64}, True, "reused 64 tokens"),
        ({"metrics": "", "cached_tokens": 0}, False, "reused nothing"),
        ({"metrics": ""}, None, "does not show"),
    ],
)
def test_the_prefix_cache_is_found(given: dict[str, object], cache: bool | None, word: str) -> None:
    probe, _ = probed(server_of(VLLM, **given))
    assert probe.prefix_cache is cache
    assert word in probe.prefix_cache_shown_by


def test_sampling_by_default_is_found() -> None:
    assert probed(server_of(VLLM_TOKENS, fault="samples"))[0].greedy is False


def test_one_token_too_many_is_found_and_passed_on_as_it_is() -> None:
    async def body() -> tuple[int, dict[str, float]]:
        async with engine_of(server_of(VLLM, fault="129 tokens")) as engine:
            await engine.start(lambda text: None)
            assert engine.servers[0].probed.most_tokens == 129
            sink = await answer(engine, requests(1), FULL, False)
            return len(sink.answers[0]), engine.counters()

    length, counters = asyncio.run(body())
    assert (length, counters["over_limit"], counters["generation_tokens"]) == (129, 1, 129)


@pytest.mark.parametrize("kind, fault", [(VLLM, "other prompt"), (TENSORRT, "prompt cut")])
def test_another_prompt_than_was_sent_is_found(kind: str, fault: str) -> None:
    assert probed(server_of(kind, fault=fault))[0].ids_in is False


def test_text_alone_is_counted_by_the_server_and_never_tokenised() -> None:
    async def body() -> Collector:
        async with engine_of(server_of(TEXT)) as engine:
            await engine.start(lambda text: None)
            probe = engine.servers[0].probed
            assert (probe.ids_out, probe.greedy) == (False, None)
            return await answer(engine, requests(2), FULL, True)

    sink = asyncio.run(body())
    assert list(sink.answers.values()) == [[0] * 128] * 2
    assert sink.first == {0: 0, 1: 0}


def test_text_without_a_count_cannot_be_measured() -> None:
    error = failure(server_of(TEXT, usage=False))
    assert isinstance(error, MissingError)
    assert "expected token ids, or a count of them" in str(error)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"fault": "wrong ids"}, BrokeError, "expected token ids from 0 to 128255, found 128256"),
        ({"fault": "slow headers"}, MissingError, "no answer within 0.4 s"),
        ({"fault": "status 500"}, BrokeError, "status 500: CUDA error: device-side assert"),
        ({"fault": "invalid UTF-8"}, BrokeError, "expected JSON in UTF-8, found"),
        ({"fault": "cut stream"}, MissingError, "cut off"),
        ({"key": "sesame"}, MissingError, "set ENDPOINT_API_KEY to the server's key"),
    ],
)
def test_a_server_that_cannot_be_measured_is_named(
    given: dict[str, object], kind: type[Exception], words: str
) -> None:
    error = failure(server_of(VLLM, **given))
    assert type(error) is kind
    assert words in str(error)
    assert "ENGINE: http://127.0.0.1:" in str(error)
    assert "\n" not in str(error)


def test_the_key_is_sent_and_shown_nowhere() -> None:
    assert probed(server_of(VLLM, key="sesame"), key="sesame")[0].ids_out
    error = failure(server_of(VLLM, key="sesame"), key="mustard")
    assert "status 401" in str(error)
    assert "mustard" not in str(error)


def test_nobody_there() -> None:
    async def body() -> None:
        engine = EndpointEngine(["http://127.0.0.1:9"], FULL, VOCABULARY, patience=SHORT)
        with pytest.raises(MissingError, match=r"http://127.0.0.1:9: .*start the server"):
            await engine.start(lambda text: None)
        await engine.close()

    asyncio.run(body())


# Requests of the probe of VLLM: one to a path that is absent, one short, two long.
PROBE = 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("status 500", "status 500: CUDA error"),
        ("status 503", "status 503"),
        ("cut stream", "cut off"),
        ("slow headers", "no answer in time"),
        ("wrong ids", "expected token ids from 0 to 128255"),
        ("invalid UTF-8", "expected JSON in UTF-8"),
    ],
)
@pytest.mark.parametrize("retries", [False, True])
def test_an_error_in_mid_run_ends_it_with_its_cause(fault: str, words: str, retries: bool) -> None:
    async def body() -> Exception:
        server = server_of(VLLM, fault=fault, fail_at=PROBE + 5)
        async with engine_of(server) as engine:
            await engine.start(lambda text: None)
            engine.begin_run(retries)
            sink = Collector(20)
            engine.submit(requests(20), LIMITS, True, sink)
            with pytest.raises(BrokeError, match=words) as caught:
                await asyncio.wait_for(sink.ended, 10)
            again = Collector(1)
            engine.submit(requests(1), LIMITS, True, again)
            with pytest.raises(BrokeError, match=words):
                await asyncio.wait_for(again.ended, 1)
            return caught.value

    assert "127.0.0.1" in str(asyncio.run(body()))


@pytest.mark.parametrize("fault", ["status 429", "status 503", "cut stream"])
def test_a_busy_server_is_asked_again_in_accuracy_mode_alone(fault: str) -> None:
    async def body(retries: bool) -> Collector:
        server = server_of(VLLM, fault=fault, fail_at=PROBE + 2, fail_count=3)
        async with engine_of(server) as engine:
            await engine.start(lambda text: None)
            engine.begin_run(retries)
            sink = await answer(engine, requests(10), LIMITS, True)
            assert engine.counters()["retries"] == 3
            return sink

    sink = asyncio.run(body(True))
    assert {i: sink.answers[i] for i in range(10)} == {
        request.id: answer_to(request.prompt, LIMITS) for request in requests(10)
    }
    with pytest.raises(BrokeError, match=r"status|cut off"):
        asyncio.run(body(False))


def test_ten_thousand_connections_refused_are_one_failure() -> None:
    async def body() -> None:
        async with engine_of(server_of(VLLM)) as engine:
            await engine.start(lambda text: None)
            engine.servers[0].client.address = "http://127.0.0.1:9"
            engine.begin_run(False)
            sink = Collector(10_000)
            engine.submit(requests(10_000), LIMITS, False, sink)
            with pytest.raises(BrokeError, match=r"127.0.0.1:9: .*(refused|no answer in time)"):
                await asyncio.wait_for(sink.ended, 10)

    asyncio.run(body())


def test_several_servers_share_the_work() -> None:
    async def body(streaming: bool) -> None:
        servers = [server_of(VLLM), server_of(SGLANG)]
        async with engine_of(*servers, seats=4) as engine:
            await engine.start(lambda text: None)
            before = [len(server.asked) for server in servers]
            sink = await answer(engine, requests(60), LIMITS, streaming)
            assert sink.answers == {r.id: answer_to(r.prompt, LIMITS) for r in requests(60)}
            shares = [len(server.asked) - n for server, n in zip(servers, before, strict=True)]
            assert sum(shares) == 60
            assert min(shares) >= 15

    asyncio.run(body(False))
    asyncio.run(body(True))
