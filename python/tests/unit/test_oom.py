"""Out of memory: what vLLM 0.27.1 and torch say, the steps that give what is missing, and the advice."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from oom_texts import (
    AVAILABLE,
    CPU_STARTUP,
    FINE,
    FULL,
    LOADED,
    LOADING,
    NO_BLOCKS,
    ONE_REQUEST,
    START,
    STARTUP,
    TORCH,
    VAGUE,
)

from mlperf_llama.engine import derive, oom_fallback
from mlperf_llama.engine.oom_advice import advice
from mlperf_llama.engine.oom_fallback import FallbackStep, Load, make_plan
from mlperf_llama.engine.oom_messages import Phase, Shortage, is_out_of_memory, shortage
from mlperf_llama.rules import MODEL_SHAPE, ModelShape
from mlperf_llama.sources.model.shape import shape_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LOADING + LOADED + AVAILABLE.format(-3.21) + NO_BLOCKS, Shortage(Phase.CACHE, 3.21, cache=-3.21)),
        (NO_BLOCKS, Shortage(Phase.CACHE)),
        (ONE_REQUEST.format(0.36, 0.11), Shortage(Phase.CACHE, 0.25, one_request=0.36, cache=0.11)),
        (STARTUP, Shortage(Phase.STARTUP, 35.72, 39.5, 79.18, 39.68)),
        (CPU_STARTUP, Shortage(Phase.STARTUP, 3.87, 3.1, 7.75, 4.65)),
        (LOADING + FULL, Shortage(Phase.WEIGHTS, 1.5, 0.5, 79.18, 0.06)),
        (LOADING + LOADED + FULL, Shortage(Phase.PROFILE, 1.5, 0.5, 79.18, 0.06)),
        (
            LOADING + LOADED + AVAILABLE.format(65.3) + FULL,
            Shortage(Phase.SERVING, 1.5, 0.5, 79.18, 0.06, cache=65.3),
        ),
        # Where vLLM logs nothing: the largest step.
        (FULL, Shortage(Phase.PROFILE, 1.5, 0.5, 79.18, 0.06)),
        # Memory in pieces: torch calls more free than it tried for.
        (
            LOADING + TORCH.format(tried="96.00 MiB", free="1.00 GiB", own="58.18"),
            Shortage(Phase.WEIGHTS, 0.09375, 1.0, 79.18, 20.0),
        ),
        ("RuntimeError: CUDA error: CUDA_ERROR_OUT_OF_MEMORY", Shortage(Phase.PROFILE)),
        # The last one of a load counts.
        (AVAILABLE.format(9.0) + FULL + ONE_REQUEST.format(2.0, 1.5),
         Shortage(Phase.CACHE, 0.5, one_request=2.0, cache=1.5)),
    ],
)  # fmt: skip
def test_what_the_messages_say(text: str, expected: Shortage) -> None:
    assert is_out_of_memory(text)
    lack = shortage(f"{text}\n{VAGUE}")
    assert lack.phase is expected.phase
    for name in ("missing", "free", "total", "others", "one_request", "cache"):
        value = getattr(expected, name)
        assert getattr(lack, name) == (value if value is None else pytest.approx(value, abs=1e-6)), name


def test_an_engine_that_had_loaded_lacks_memory_beside_its_cache() -> None:
    lack = shortage("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.", serving=True)
    assert lack == Shortage(Phase.SERVING, 20 / 1024)


def test_the_messages_are_those_of_the_vllm_that_is_installed() -> None:
    """As its source has them; importing it takes seconds."""
    where = find_spec("vllm")
    if where is None or where.origin is None:
        pytest.skip("vLLM is not installed")
    root = Path(where.origin).parent
    texts = {
        "v1/core/kv_cache_utils.py": ("No available memory for the cache blocks", 'GiB KV "\n'),
        "v1/worker/utils.py": ("Free memory on device", "is less than desired GPU memory utilization"),
        "v1/worker/gpu_worker.py": ("Available KV cache memory: %s GiB",),
        "v1/worker/gpu_model_runner.py": ("Starting to load model", "Model loading took"),
    }
    for name, wanted in texts.items():
        source = (root / name).read_text()
        assert all(text in source for text in wanted), name


H100_GIB = 79.18


def load(*user_fixed: str, fp8_cache: bool = True, **changes: object) -> Load:
    return Load({**START, **changes}, user_fixed, fp8_cache, H100_GIB)


def names(plan: oom_fallback.Plan) -> list[str]:
    return [step.name for step in plan.steps]


def given(before: Load, plan: oom_fallback.Plan) -> float:
    """What the plan's tokens and sequences give by the memory model itself."""
    after = before.after(plan.steps)
    return sum(
        sign * derive.activations_gib(each.part, each.tokens, each.seqs)
        for sign, each in ((1, before), (-1, after))
    )


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (0.2, ["max_cudagraph_capture_size"]),
        (0.9, ["max_cudagraph_capture_size", "max_num_batched_tokens"]),
        # 1.25 GiB are a step's: 8192 tokens and 512 sequences' logits of 0.73 GiB.
        (1.25, ["max_cudagraph_capture_size", "max_num_batched_tokens", "max_num_seqs"]),
        (1.6, ["max_cudagraph_capture_size", "max_num_batched_tokens", "max_num_seqs", "kv_cache_dtype"]),
    ],
)
def test_a_plan_takes_what_is_needed_and_no_more(missing: float, expected: list[str]) -> None:
    plan = make_plan(Shortage(Phase.CACHE, missing, one_request=0.36), load())
    assert names(plan) == expected and plan.suffices and plan.given_gib >= missing


def test_a_plan_gives_what_the_memory_model_says() -> None:
    for missing in (0.1, 0.3, 0.5, 0.8):
        plan = make_plan(Shortage(Phase.PROFILE, missing), load())
        assert plan.suffices and set(names(plan)) <= {"max_num_batched_tokens", "max_num_seqs"}
        assert given(load(), plan) == pytest.approx(plan.given_gib)
        assert missing <= plan.given_gib < missing + 0.2, "no more than is needed"


def test_weights_and_other_processes_are_nothing_that_a_step_could_give() -> None:
    for phase in (Phase.WEIGHTS, Phase.STARTUP):
        assert not make_plan(Shortage(phase, 0.01), load()).suffices


def test_beside_a_cache_the_cache_gives() -> None:
    plan = make_plan(Shortage(Phase.SERVING, 1.5, total=H100_GIB, cache=65.0), load())
    assert plan.steps == (FallbackStep("gpu_memory_utilization", 0.95, 0.92),)
    assert names(make_plan(Shortage(Phase.SERVING, 0.2), load("gpu_memory_utilization"))) == [
        "max_cudagraph_capture_size"
    ]
    # A cache that holds one request has none to give.
    none_left = make_plan(Shortage(Phase.SERVING, 0.2, total=H100_GIB, cache=0.4), load())
    assert names(none_left) == ["max_cudagraph_capture_size"]


def test_what_the_user_chose_stays() -> None:
    lack = Shortage(Phase.CACHE, 1.0, one_request=0.36)
    everything = ("compilation_config", "max_num_seqs", "max_num_batched_tokens", "kv_cache_dtype")
    assert make_plan(lack, load(*everything)).steps == ()
    assert names(make_plan(lack, load(*everything[:3]))) == ["kv_cache_dtype"]
    assert names(make_plan(lack, load(*everything[1:]))) == ["max_cudagraph_capture_size"]
    assert names(make_plan(lack, load(everything[0]))) == [
        "max_num_batched_tokens", "max_num_seqs", "kv_cache_dtype",
    ]  # fmt: skip


def test_neither_weights_nor_a_cache_the_card_cannot_read() -> None:
    lack = Shortage(Phase.CACHE, 50.0, one_request=0.36)
    assert "kv_cache_dtype" not in names(make_plan(lack, load(fp8_cache=False)))
    all_of_them = make_plan(lack, load(quantization="fp8", dtype="bfloat16"))
    assert not {"quantization", "dtype"} & set(names(all_of_them)) and not all_of_them.suffices


def test_floors_hold() -> None:
    plan = make_plan(Shortage(Phase.CACHE, 50.0), load())
    after = load().after(plan.steps)
    assert (after.seqs >= oom_fallback.SEQS_FLOOR, after.tokens) == (True, oom_fallback.TOKENS_FLOOR)
    many = load("max_num_seqs", max_num_seqs=4096, max_num_batched_tokens=8192)
    assert many.after(make_plan(Shortage(Phase.PROFILE, 50.0), many).steps).tokens >= 4096


def test_graph_sizes_give_way_to_their_ceiling() -> None:
    sized = {**START, "compilation_config": {"cudagraph_capture_sizes": [1, 512], "level": 3}}
    step = make_plan(Shortage(Phase.CACHE, 0.3, one_request=0.1), Load(sized)).steps[0]
    assert step.before == 512 and 64 <= float(step.after) < 512
    assert step.apply(sized)["compilation_config"] == {"level": 3, "max_cudagraph_capture_size": step.after}


def test_two_gpus_hold_half_of_heads_and_mlp_each() -> None:
    one, two = load(), load(tensor_parallel_size=2)
    assert two.one_request_gib == one.one_request_gib / 2 and two.part.hidden == one.part.hidden


def line(text: str, *user_fixed: str, **changes: object) -> str:
    lack, engine = shortage(text), load(*user_fixed, **changes)
    plan = make_plan(lack, engine)
    assert not plan.suffices
    said = advice(lack, plan, engine)
    assert "\n" not in said
    return said


def test_a_user_learns_which_share_is_needed() -> None:
    """0.1 of 79.18 GiB are less than 8.5 GiB of weights: 3.21 GiB and a request are missing."""
    said = line(
        AVAILABLE.format(-3.21) + NO_BLOCKS,
        gpu_memory_utilization=0.1,
        kv_cache_dtype="fp8",
        quantization="fp8",
    )
    assert "3.3" in said and "for the KV cache" in said
    least = float(said.split("of at least ")[1][:4])
    unchanged = float(said.split("(")[1][:4])
    # What has been measured on that card: weights, activations and the rest.
    assert 0.1 + (3.21 - 2.0) / H100_GIB < least < unchanged == 0.15


def test_a_model_too_large_needs_no_share() -> None:
    assert "too large for 79.18 GiB: take a GPU" in line(AVAILABLE.format(-20) + NO_BLOCKS)
    said = line(LOADING + FULL)
    assert "while the weights were loaded" in said and "too large" in said


def test_other_processes_are_named_as_the_cause() -> None:
    said = line(STARTUP, quantization="fp8")
    assert "39.68 of 79.18 GiB" in said and "at most 0.49" in said and "at least 0.12" in said
    assert "end them" in line(LOADING + TORCH.format(tried="1.00 GiB", free="0.50 GiB", own="58.68"))


def test_settings_of_the_user_are_named_as_the_cause() -> None:
    said = line(LOADED + FULL, "max_num_batched_tokens")
    assert "lower MAX_NUM_BATCHED_TOKENS" in said
    serving = line(AVAILABLE.format(60) + FULL, "gpu_memory_utilization", enforce_eager=True)
    assert "GPU_MEMORY_UTILIZATION of at most 0.92" in serving


def test_a_shape_is_that_of_the_model() -> None:
    assert shape_of({}, MODEL_SHAPE) == ModelShape()
    small = shape_of(
        {"hidden_size": 576, "num_attention_heads": 9, "num_hidden_layers": 30, "head_dim": None},
        MODEL_SHAPE,
    )
    assert (small.hidden, small.heads, small.layers, small.head_size) == (576, 9, 30, 64)


@pytest.mark.parametrize(
    "text", [FINE, "RuntimeError: CUDA error: an illegal memory access", "the model's memory of the article"]
)
def test_no_sign_of_a_lack_of_memory(text: str) -> None:
    assert not is_out_of_memory(text)
