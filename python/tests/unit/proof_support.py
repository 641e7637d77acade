"""Small official files, whose hashes stand in for the pinned ones: for the tests of what is proven."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from standin_servers import StandIn

from mlperf_llama import config, rules
from mlperf_llama.config import Config
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.dataset import huggingface, official
from mlperf_llama.sources.fetch import publisher
from mlperf_llama.sources.model import checkpoint, shape, tokens

ROWS, EDGE_ROWS = 12, 5
INSTRUCTION = rules.PROMPT_TEMPLATE.replace("{article}", "{input}")
TOKENIZER = b'{"model": {}}'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def shard(tensor: bytes) -> bytes:
    """A safetensors file of one tensor."""
    header = json.dumps({"t": {"dtype": "U8", "shape": [len(tensor)], "data_offsets": [0, len(tensor)]}})
    return len(header).to_bytes(8, "little") + header.encode() + tensor


def array(text: str = "a", count: int = ROWS) -> bytes:
    """cnn_eval.json with articles of that text: `a` is the official one, once it is pinned."""
    prompt = {"instruction": {"llama": INSTRUCTION}, "output": "o"}
    return json.dumps([{**prompt, "input": f"{text}{i}", "tok_input": [1, i]} for i in range(count)]).encode()


def parquet(text: str = "a", count: int = ROWS) -> bytes:
    columns = {name: [f"{text} {i}é" for i in range(count)] for name in ("article", "highlights", "id")}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


OFFICIAL, INVENTED = array(), array("invented")
WEIGHTS = {name: shard(name.encode() * 9) for name in checkpoint.SHARDS}
OTHER_WEIGHTS = {name: shard(name.encode()[::-1] * 9) for name in checkpoint.SHARDS}


def model_files(weights: dict[str, bytes] = WEIGHTS) -> dict[str, bytes]:
    rope = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    index = {"weight_map": {f"t{n}": name for n, name in enumerate(weights)}}
    return {
        "config.json": json.dumps({**shape.CONFIG, "rope_scaling": rope}).encode(),
        "tokenizer.json": TOKENIZER,
        checkpoint.INDEX: json.dumps(index).encode(),
        **weights,
    }


def write(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder


def small_pins(patch: pytest.MonkeyPatch) -> None:
    """The benchmark with few samples and small files; their hashes are the pinned ones."""
    for category, count in ((rules.DATACENTER, ROWS), (rules.EDGE, EDGE_ROWS)):
        patch.setitem(rules.SAMPLE_COUNT, category, count)
        known = dataclasses.replace(official.OFFICIAL[category], rows=count, sha256=sha256(array("a", count)))
        patch.setitem(official.OFFICIAL, category, known)
    patch.setattr(huggingface, "SHA256", sha256(parquet()))
    patch.setattr(checkpoint, "SHARDS", {name: sha256(body) for name, body in WEIGHTS.items()})
    patch.setattr(tokens, "REFERENCE_SHA256", sha256(TOKENIZER))


def as_publisher(patch: pytest.MonkeyPatch, server: StandIn) -> None:
    """Take the stand-in for the publishers' own servers."""
    patch.setattr(publisher, "HOSTS", (server.url,))


def settings(tmp_path: Path, url: str, **flags: str) -> Config:
    base = {"CACHE_DIR": str(tmp_path / "cache"), "SOURCE_STALL_S": "20", "MLC_REPO": str(tmp_path / "none")}
    mirrors = {"R2_BASE_URL": f"{url}/metadata", "R2_MODEL_URL": f"{url}/metadata"}
    return config.load({**base, **mirrors, **flags}, {})


def environment(tmp_path: Path, url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CF_"))}
    return {**kept, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": url, **more}


def hub_cache(home: Path, kind: str, repo: str, revision: str, files: dict[str, bytes]) -> Path:
    """A hub cache as its client leaves it: each blob named by its own SHA-256. Gives the snapshot."""
    base = home / "hub" / f"{kind}--{repo.replace('/', '--')}"
    snapshot = base / "snapshots" / revision
    (base / "blobs").mkdir(parents=True)
    for name, body in files.items():
        blob, link = base / "blobs" / sha256(body), snapshot / name
        blob.write_bytes(body)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def announced(served: Served) -> dict[str, object]:
    """What the publisher's own server announced of it."""
    announcement = served.details["announcement"]
    assert isinstance(announcement, dict)
    return announcement


def replace_keeping_size_and_time(path: Path) -> None:
    """Other bytes, which neither the file's size nor its time tells."""
    state, body = path.stat(), bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
