"""vLLM on this machine's CPU: two members answer like one engine, token for token."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from engine_contract import Collector
from pipeline_runs import ARTICLES
from replica_support import Workers, specs

from mlperf_llama import config
from mlperf_llama.engine import Engine, Limits, Request, tuned
from mlperf_llama.engine.preset import CPU, load_preset
from mlperf_llama.engine.replicas import settings as member_settings
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.engine.settings import EngineSettings, ModelFacts, engine_settings
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import MissingError
from mlperf_llama.sources import model

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1200)]

COUNT = 24
LIMITS = Limits(8, 8, ())
LONGEST = 200
# Both members and whatever else runs share this machine's cores.
ANSWER_S = 600.0


@pytest.fixture(scope="module")
def given() -> config.Config:
    # float32: in bfloat16 two tokens can tie, and the batch then decides between them.
    return config.load({"DTYPE": "float32", "MAX_NUM_SEQS": "8"}, config.environment())


@pytest.fixture(scope="module")
def folder(given: config.Config) -> Path:
    try:
        return Path(model.serve("stand-in", given, os.environ).path)
    except MissingError as error:
        pytest.skip(f"the stand-in cannot be had here: {error}")


def wanted(given: config.Config, folder: Path) -> EngineSettings:
    facts = ModelFacts(str(folder), 2668)
    return engine_settings(given, load_preset(CPU), tuned.NONE, facts, on_gpu=False, cpu_threads=1)


def requests(folder: Path) -> list[Request]:
    from tokenizers import Tokenizer

    if not ARTICLES.is_file():
        pytest.skip("no articles here")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [json.loads(line) for line in ARTICLES.read_text().splitlines()[:COUNT]]
    return [Request(i, tokenizer.encode(row["article"]).ids[:LONGEST]) for i, row in enumerate(rows)]


def answers(engine: Engine, batch: Sequence[Request], *streaming: bool) -> list[dict[int, list[int]]]:
    """Of the batch, each way."""

    async def body() -> list[dict[int, list[int]]]:
        each_way = []
        try:
            await engine.start(lambda text: None)
            for way in streaming:
                sink = Collector(len(batch))
                engine.submit(batch, LIMITS, way, sink)
                await asyncio.wait_for(sink.ended, ANSWER_S)
                each_way.append(sink.answers)
        finally:
            await engine.close()
        return each_way

    return asyncio.run(body())


def test_two_members_answer_like_one(given: config.Config, folder: Path) -> None:
    settings, batch = wanted(given, folder), requests(folder)
    one = VllmEngine(settings.arguments, given.cache_path, settings.environment)
    two = ReplicaEngine(
        specs(2),
        member_settings.MemberSettings(
            "vllm",
            dict(settings.arguments),
            # vLLM's CPU build otherwise binds both to the same cores.
            {**settings.environment, "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
            given.cache_dir,
            str(folder),
            "unknown",
            member_settings.host_id(),
        ),
        TokenRouter(),
        Workers(),
    )
    pulled, pushed = answers(two, batch, False, True)
    reports = [member.report for member in two.members.values()]
    assert all(report is not None and report.model_sha256 for report in reports)
    assert len({len(report.info.settings) for report in reports if report}) == 1
    assert len({tuple(answer) for answer in pulled.values()}) > COUNT // 2, "the prompts must matter"
    assert pulled == pushed == answers(one, batch, False)[0]
