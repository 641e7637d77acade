"""vLLM on this machine's CPU: two halves of a tiny model with the extension answer like the whole without it.

The model's heads times their size are unlike its hidden size, so that no width stands for another.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import engine_contract
import pytest

from mlperf_llama import config
from mlperf_llama.engine import Limits, Request, hopper, tuned
from mlperf_llama.engine.preset import CPU, load_preset
from mlperf_llama.engine.settings import ModelFacts, engine_settings
from mlperf_llama.engine.vllm import VllmEngine

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

HIDDEN, WIDE, HEADS, KV_HEADS, HEAD, LAYERS, VOCABULARY = 96, 160, 4, 2, 32, 3, 512
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "head_dim": HEAD,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    shapes = {"model.embed_tokens": (VOCABULARY, HIDDEN), "lm_head": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.self_attn.q_proj": (HEADS * HEAD, HIDDEN),
            f"{name}.self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            f"{name}.self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
            f"{name}.self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            f"{name}.mlp.gate_proj": (WIDE, HIDDEN),
            f"{name}.mlp.up_proj": (WIDE, HIDDEN),
            f"{name}.mlp.down_proj": (HIDDEN, WIDE),
        }
    norms = ["model.norm"]
    norms += [f"model.layers.{i}.{n}_layernorm" for i in range(LAYERS) for n in ("input", "post_attention")]
    tensors = {f"{name}.weight": torch.randn(shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
    tensors |= {f"{name}.weight": torch.rand(HIDDEN) + 0.5 for name in norms}
    path = tmp_path_factory.mktemp("tiny")
    (path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def answers(folder: Path, **given: str) -> dict[int, list[int]]:
    settings = config.load({"DTYPE": "float32", **given}, config.environment())
    facts = ModelFacts(str(folder), 512)
    wanted = engine_settings(settings, load_preset(CPU), tuned.NONE, facts, on_gpu=False, cpu_threads=1)
    engine = VllmEngine(wanted.arguments, settings.cache_path, wanted.environment)
    requests = [Request(i, [(7 * i + 3 * j) % VOCABULARY for j in range(5 + 40 * i)]) for i in range(4)]

    async def body() -> dict[int, list[int]]:
        await engine.start(lambda text: None)
        try:
            found = await engine_contract.answer(engine, requests, Limits(12, 12, ()), streaming=False)
        finally:
            await engine.close()
        return found.answers

    return asyncio.run(body())


def test_halves_answer_like_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # vLLM's CPU build otherwise wants a NUMA node for each half.
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    extended = {"ENGINE_ARGS": json.dumps({"worker_extension_cls": hopper.EXTENSION})}
    halves = answers(folder, TENSOR_PARALLEL="2", **extended)
    assert len({tuple(answer) for answer in halves.values()}) == 4, "the prompts must matter"
    assert halves == answers(folder)
