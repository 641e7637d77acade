"""The whole path with servers as the engine: stand-in servers here, vLLM's own in test_endpoint_vllm.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from endpoint_servers import SGLANG, TEXT, VLLM, StandIn, serving
from pipeline_runs import entrypoint

from mlperf_llama import config, rules
from mlperf_llama.sources import model

OFF = 'vllm:cache_config_info{enable_prefix_caching="False"} 1.0\n'


@contextmanager
def addresses(*servers: StandIn) -> Iterator[str]:
    """Of servers on a thread of their own, with commas."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    urls: list[str] = []
    started = threading.Event()

    async def body() -> None:
        async with AsyncExitStack() as stack:
            urls.extend([await stack.enter_async_context(serving(server)) for server in servers])
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(body(),))
    thread.start()
    try:
        assert started.wait(10)
        yield ",".join(urls)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def tokenizer() -> str:
    """A folder with config and tokenizer alone, and ids from 0 to 999."""
    settings = config.load({"ENGINE": "fake"}, config.environment())
    return model.serve("fake", settings, config.environment()).path


def test_every_scenario_by_two_servers_and_the_key_stays_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [
        StandIn(kind, key="s3same-0pen", metrics=OFF, cached_tokens=cached, vocabulary=1000)
        for kind, cached in ((VLLM, None), (SGLANG, 0))
    ]
    key = tmp_path / "key"
    key.write_text("s3same-0pen\n")
    monkeypatch.setenv("ENDPOINT_API_KEY_FILE", str(key))
    with addresses(*servers) as engine:
        ended = entrypoint(
            tmp_path / "results",
            *("run", "--engine", engine, "--model", tokenizer()),
            SCENARIO="Offline,Server,Interactive",
            DATASET_SOURCE="synthetic",
            SAMPLES=12,
            DURATION_S=0.5,
        )
    # A busy machine may miss Interactive's 500 ms at the rate that the warm-up found.
    assert ended.code in (0, 5), ended.stderr
    assert ended.folder is not None
    scenarios = ended.read("results.json")["scenarios"]
    assert set(scenarios) == {rules.OFFLINE, rules.SERVER, rules.INTERACTIVE}
    assert {scenarios[n]["performance"]["loadgen_result"] for n in (rules.OFFLINE, rules.SERVER)} == {"VALID"}
    for scenario in scenarios.values():
        assert scenario["accuracy"]["gen_num"] == 12
    probed = ended.read("provenance.json")["endpoints"]
    assert [one["software"] for one in probed] == ["vLLM", "SGLang"]
    passed = {c["name"]: c["passed"] for c in ended.read("verdict.json")["checks"]}
    assert {n for n in passed if n.startswith("endpoint_") and not passed[n]} == {"endpoint_weights"}
    assert passed["Offline.performance.counted"]
    assert "Speed of an endpoint, not an MLPerf result" in ended.stderr
    written = b"".join(path.read_bytes() for path in ended.folder.rglob("*") if path.is_file())
    assert b"s3same-0pen" not in written + ended.stderr.encode()


def test_text_alone_is_not_scored(tmp_path: Path) -> None:
    with addresses(StandIn(TEXT)) as engine:
        ended = entrypoint(
            tmp_path, "run", ENGINE=engine, MODEL=tokenizer(), DATASET_SOURCE="synthetic", SAMPLES=4
        )
    assert ended.code == 2
    assert "MODE: expected performance alone" in ended.stderr
