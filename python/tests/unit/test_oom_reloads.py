"""Out of memory: an engine that dies of it is loaded again with less, and the record of it."""

from __future__ import annotations

import asyncio
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from engine_contract import Collector, requests
from loadgen_support import LIMITS
from oom_texts import AVAILABLE, FULL, LOADED, LOADING, NO_BLOCKS, ONE_REQUEST, START, VAGUE
from replica_support import Workers, specs

from mlperf_llama import config, rules
from mlperf_llama.bench import oom
from mlperf_llama.bench.session import Session
from mlperf_llama.engine import EngineInfo, oom_fallback, preset, tuned
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.engine.replicas.settings import MemberSettings
from mlperf_llama.engine.settings import EngineSettings, ModelFacts, engine_settings
from mlperf_llama.errors import BrokeError, MissingError, PipelineError
from mlperf_llama.records.codec import to_json
from mlperf_llama.records.events import Events
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Gpu, Provenance


class Scripted:
    """An engine that logs and dies as vLLM does, once per text; then it loads."""

    def __init__(self, texts: list[str], log: Path) -> None:
        self._texts, self._log = texts, log

    async def start(self, progress: Any) -> EngineInfo:
        if self._texts:
            with self._log.open("a") as stream:
                stream.write(LOADING + self._texts.pop(0))
            raise BrokeError(f"vLLM could not load /m: {VAGUE}")
        return EngineInfo("vllm", "0.27.1", {}, 1.0)

    async def close(self) -> None: ...


class ScriptedSession(Session):
    """A session without data and model; `loads` holds the arguments of every load."""

    def __init__(self, run: RunFolder, flags: dict[str, str], texts: list[str]) -> None:
        self.run, self.config, self.events = run, config.load({"ENGINE": "vllm", **flags}, {}), Events(None)
        self.gpu = Gpu(name="NVIDIA H100 80GB HBM3", memory_gib=79.65, compute_capability="9.0")
        self._memory = oom.MemoryFallback(run, self.gpu, {})
        self.preset = preset.Preset("small", {**START, "quantization": "fp8"})
        self._texts, self._info, self._scales = texts, None, None
        self.loads: list[dict[str, object]] = []
        self.engine = self._make_engine()

    @property
    def settings(self) -> EngineSettings:
        facts = ModelFacts("/model", rules.MAX_MODEL_LEN)
        steps = self._memory.steps
        return engine_settings(
            self.config, self.preset, tuned.NONE, facts, on_gpu=True, cpu_threads=1, oom_overrides=steps
        )

    def _make_engine(self) -> Any:
        self.loads.append(dict(self.settings.arguments))
        return Scripted(self._texts, self.run.file("run.log"))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "config.json").write_text("{}")
    run = RunFolder.open(tmp_path)
    run.update(Provenance)
    return run


SHORT = LOADED + ONE_REQUEST.format(0.36, 0.11)


def test_one_reload_with_all_that_is_needed(folder: RunFolder) -> None:
    session = ScriptedSession(folder, {}, [LOADED + AVAILABLE.format(-0.6) + NO_BLOCKS])
    asyncio.run(session.start())
    assert len(session.loads) == 2
    steps = to_json(folder.read(Provenance).memory_steps)
    assert [s["name"] for s in steps] == ["max_cudagraph_capture_size", "max_num_batched_tokens"]
    assert session.loads[1]["max_num_batched_tokens"] == steps[1]["after"] < steps[1]["before"] == 8192


def test_three_reloads_are_the_most(folder: RunFolder) -> None:
    session = ScriptedSession(folder, {}, [SHORT] * 9)
    with pytest.raises(PipelineError, match=r"GPU memory: 0\.25 GiB .*at least 0\.9"):
        asyncio.run(session.start())
    assert len(session.loads) <= 1 + oom_fallback.MOST_RELOADS


def test_after_three_reloads_the_engine_broke(folder: RunFolder) -> None:
    little = LOADED + ONE_REQUEST.format(0.36, 0.35)
    session = ScriptedSession(folder, {}, [little] * 9)
    with pytest.raises(BrokeError, match="loaded 3 times again with less"):
        asyncio.run(session.start())
    assert len(session.loads) == 4


def test_no_reload_where_nothing_helps(folder: RunFolder) -> None:
    flags = {"GPU_MEMORY_UTILIZATION": "0.1"}
    session = ScriptedSession(folder, flags, [LOADED + AVAILABLE.format(-3.2) + NO_BLOCKS])
    with pytest.raises(MissingError, match=r"needs GPU_MEMORY_UTILIZATION of at least 0\.1"):
        asyncio.run(session.start())
    assert len(session.loads) == 1 and folder.read(Provenance).memory_steps is None


@pytest.mark.parametrize(
    "text",
    [
        LOADED + "RuntimeError: an illegal memory access was encountered\n",
        # Killed: no last word.
        LOADED,
        # Told of, and not what it died of.
        LOADED + FULL + "RuntimeError: an illegal memory access was encountered\n",
        LOADED + "WARNING: larger steps may run out of memory\nRuntimeError: NCCL error\n",
    ],
)
def test_another_failure_is_its_own(text: str, folder: RunFolder) -> None:
    """Also where an earlier load of this run lacked memory."""
    session = ScriptedSession(folder, {}, [SHORT, text])
    with pytest.raises(BrokeError, match="could not load"):
        asyncio.run(session.start())
    assert len(session.loads) == 2


def test_a_worker_s_lack_of_memory_is_found_below_its_parents_words(folder: RunFolder) -> None:
    """With tensor parallelism."""
    parent = (
        "Exception: WorkerProc initialization failed due to an exception in a background process. See stack "
        "trace for root cause.\n"
    )
    session = ScriptedSession(folder, {"TENSOR_PARALLEL": "2"}, [SHORT + parent])
    asyncio.run(session.start())
    assert len(session.loads) == 2


def test_an_engine_that_died_of_it_in_a_run_starts_again(folder: RunFolder) -> None:
    session = ScriptedSession(folder, {}, [])
    asyncio.run(session.start())
    asyncio.run(session.restart("CUDA out of memory. Tried to allocate 900.00 MiB. GPU 0"))
    assert session.loads[-1]["gpu_memory_utilization"] == 0.93
    fixed = ScriptedSession(folder, {"GPU_MEMORY_UTILIZATION": "0.9"}, [])
    asyncio.run(fixed.restart("CUDA out of memory. Tried to allocate 40.00 GiB. GPU 0"))
    assert fixed.loads[0] == fixed.loads[-1], "nothing helps: the same again"


def lines_of(member: int, text: str) -> str:
    return "".join(f"member {member} | {line}\n" for line in text.splitlines())


def test_a_member_s_shortage_is_its_own(folder: RunFolder) -> None:
    """Others that load beside it have memory left, or lack as much as would end the run."""
    short = LOADED + AVAILABLE.format(-0.6)
    alone = ScriptedSession(folder, {}, [short + NO_BLOCKS])
    asyncio.run(alone.start())
    others = lines_of(0, AVAILABLE.format(60.0)) + lines_of(12, FULL.replace("2.00 GiB", "70.00 GiB"))
    log = lines_of(1, LOADING + short) + others + lines_of(1, NO_BLOCKS) + others
    run = folder.file("run.log")
    run.write_text(log)
    memory = oom.MemoryFallback(folder, alone.gpu, {})
    settings = ScriptedSession(folder, {}, []).settings
    steps = memory.take(settings, f"member 1 on a, GPU 1: vLLM could not load /m: {VAGUE}")
    assert steps == tuple(alone._memory.steps)


class MemberSession(ScriptedSession):
    """Two members with the fake engine; the second lacks memory until the engine is loaded with less."""

    placed = None

    def _make_engine(self) -> Any:
        first = self.loads == []
        self.loads.append(dict(self.settings.arguments))
        fault = {"fault": {"out_of_memory": 0.6}, "member": 1} if first else {}
        settings = MemberSettings("fake", fault)
        return ReplicaEngine(specs(2), settings, TokenRouter(), Workers())


@pytest.mark.slow
def test_one_member_s_lack_of_memory_loads_all_with_less(folder: RunFolder) -> None:
    """All alike, since unlike settings are no result."""
    messages: list[str] = []
    session = MemberSession(folder, {}, [])
    session.events = Events(None, lambda event: messages.append(str(event.get("message"))))

    async def body() -> None:
        with folder.file("run.log").open("a") as log, redirect_stderr(log):
            await session.start()
        try:
            sink = Collector(40)
            session.engine.submit(requests(40), LIMITS, False, sink)
            await asyncio.wait_for(sink.ended, 20)
        finally:
            await session.engine.close()

    asyncio.run(body())
    assert len(session.loads) == 2 and session.loads[0] != session.loads[1]
    assert any(message.startswith("out of memory: ") for message in messages)
    steps = folder.read(Provenance).memory_steps or ()
    assert steps and steps[0].before != steps[0].after
