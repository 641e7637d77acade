"""What an attack is made of: invented articles, weights and a vLLM, and the shipped commands."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from pipeline_runs import ROOT, Ended, environment, finish, start

from mlperf_llama.machine.process import startup
from mlperf_llama.sources.model import fake, shape

# A vLLM of a few lines: it answers with the prompt's own words, at once, and tells what the real one would.
STUB = {
    "vllm/__init__.py": """
__version__ = "0.27.1"
class SamplingParams:
    def __init__(self, **values):
        self.__dict__.update(values)
""",
    "vllm/sampling_params.py": """
import enum
class RequestOutputKind(enum.Enum):
    DELTA = 1
    FINAL_ONLY = 2
""",
    "vllm/platforms/__init__.py": """
class current_platform:
    device_type = "cuda"
""",
    "vllm/inputs/__init__.py": "",
    "vllm/inputs/engine.py": "tokens_input = list\n",
    "vllm/engine/__init__.py": "",
    "vllm/engine/arg_utils.py": """
class AsyncEngineArgs:
    def __init__(self, **values):
        self.values = values
""",
    "vllm/v1/__init__.py": "",
    "vllm/v1/engine/__init__.py": "",
    "vllm/v1/engine/async_llm.py": """
import asyncio, dataclasses
from types import SimpleNamespace as N
@dataclasses.dataclass
class Config:
    model_config: object; load_config: object; cache_config: object; scheduler_config: object
    parallel_config: object; device_config: object; speculative_config: object = None
class AsyncLLM:
    def __init__(self, values):
        shape = dict(num_hidden_layers=32, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8,
                     intermediate_size=14336, vocab_size=128256)
        self.done = 0
        self.vllm_config = Config(
            N(dtype="torch.bfloat16", quantization=None, max_model_len=2668, enforce_eager=False,
              to_dict=lambda: dict(hf_config=shape, logits_processors=None)),
            N(load_format="auto"),
            N(cache_dtype="auto", enable_prefix_caching=False, gpu_memory_utilization=0.9),
            N(max_num_seqs=800, max_num_batched_tokens=8192, async_scheduling=True),
            N(tensor_parallel_size=1, worker_extension_cls=""), N(to_dict=lambda: dict(device_type="cuda")))
        self.engine_core = self
    @classmethod
    def from_engine_args(cls, arguments):
        return cls(arguments.values)
    async def call_utility_async(self, name, *rest):
        if name == "mlperf_counters":
            return dict(steps=self.done, scheduled_tokens=self.done * 2000, preemptions=0)
    async def generate(self, prompt, parameters, request_id):
        self.done += 1
        yield N(outputs=[N(token_ids=list(prompt[30:156]) + [*parameters.stop_token_ids, 2][:1])])
    def shutdown(self, timeout):
        pass
""",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def articles(folder: Path, count: int = 24) -> Path:
    """Invented articles, each with its own beginning as its summary, and an MD5 list made beside them."""
    text = "The council of the town met on Monday and spoke about the bridge, the school and the river. "
    rows = [{"article": f"{text * 8} Item {n}.", "highlights": text * 6} for n in range(count)]
    path = folder / "articles.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    done = subprocess.run(["md5sum", path.name], cwd=folder, capture_output=True, text=True, check=True)
    (folder / "articles.md5").write_text(done.stdout)
    return path


def model(folder: Path) -> Path:
    """Llama's config.json over weights of eight bytes, and a tokenizer."""
    target = folder / "Llama-3.1-8B-Instruct"
    fake.provide(target, fake.VOCABULARY, {"model_type": "llama", "max_position_embeddings": 8192})
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**shape.CONFIG, **config}))
    header = json.dumps({"t": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    (target / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return target


# Variables that a run gets from the machine.
PLAIN = ("HOME", "PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
OWN = ("MLPERF_", "PIP_")


def fake_run(results: Path, env: dict[str, str] | None = None, **settings: object) -> Ended:
    """A short run of the fake engine, by the shipped entrypoint, with what the machine gives a process and
    `env`: what libraries have set in this one, whose tests import some, is nobody's attack."""
    base: dict[str, object] = {"ENGINE": "fake", "DATASET_SOURCE": "synthetic", "SAMPLES": 8, "TARGET": "cpu"}
    machine = startup.environment_at_start()
    plain = {name: value for name, value in machine.items() if name in PLAIN or name.startswith(OWN)}
    process = start(results, ("run",), {**base, **settings}, {**plain, **(env or {})})
    return finish(process, results, 300)


def verb(
    results: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A verb by the shipped entrypoint; `env` over the machine's own."""
    return subprocess.run(
        [str(ROOT / "entrypoint.sh"), *arguments],
        env={**environment(results, {}), **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def failed(ended: Ended) -> dict[str, str]:
    """The checks that failed, by name, with what was found."""
    checks: list[dict[str, Any]] = ended.read("verdict.json")["checks"]
    return {c["name"]: c["detail"] for c in checks if not c["passed"]}
