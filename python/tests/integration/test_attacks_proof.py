"""Invented data and weights with every kind of list and record beside them: none is called official."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import attacks
import pytest
from pipeline_runs import ROOT, environment

from mlperf_llama import rules
from mlperf_llama.sources.dataset import huggingface
from mlperf_llama.sources.model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
INSTRUCTION = rules.PROMPT_TEMPLATE.replace("{article}", "{input}")


def invented(count: int) -> bytes:
    """As cnn_eval.json is written, with as many rows as the official one."""
    row = {"instruction": {"llama": INSTRUCTION}, "output": "Words.", "tok_input": [1, 2]}
    return json.dumps([{**row, "input": f"Words of article {n}."} for n in range(count)]).encode()


@pytest.fixture(scope="module")
def rows() -> dict[str, bytes]:
    return {category: invented(count) for category, count in rules.SAMPLE_COUNT.items()}


def serve(
    tmp_path: Path, kind: str, source: str, env: dict[str, str] | None = None, **settings: object
) -> Any:
    """What provenance.json says after `create-run` and one source, by the shipped entrypoint."""
    home = {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}
    chosen = {"CACHE_DIR": tmp_path / "cache", "SOURCE_STALL_S": 5, "SOURCE_TIMEOUT_S": 20, **settings}
    whole = environment(tmp_path / "results", chosen) | home | (env or {})

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "entrypoint.sh"), *words], env=whole, cwd=ROOT, capture_output=True, text=True
        )

    created = run("create-run")
    assert created.returncode == 0, created.stderr
    folder = created.stdout.splitlines()[0].removeprefix("run_dir=")
    ended = run(kind, source, "--run-dir", folder)
    assert ended.returncode in (0, 2, 3, 4), ended.stderr
    return json.loads((Path(folder) / "provenance.json").read_text())[kind]


def md5_list(path: Path, name: str) -> None:
    path.with_name(name).write_text(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.name}\n")


def lists_beside(path: Path) -> None:
    for name in (f"{path.stem}.md5", f"{path.name}.md5", "llama3-1-8b-cnn-eval.md5", "MD5SUMS"):
        md5_list(path, name)
    path.with_name("SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def record_beside(path: Path) -> None:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"proof": "SHA-256", "sha256": sha256, "eligible": True, "verified_by": "pinned"}
    for name in (f"{path.name}.json", f"{path.stem}.record.json", "provenance.json"):
        path.with_name(name).write_text(json.dumps(record))


METADATA = {"nothing": lambda path: None, "MD5 lists": lists_beside, "records": record_beside}
NAMES = {rules.DATACENTER: "cnn_eval.json", rules.EDGE: "sample_cnn_eval_5000.json"}


@pytest.mark.parametrize("category", NAMES)
@pytest.mark.parametrize("metadata", METADATA)
def test_invented_rows_are_never_official(
    metadata: str, category: str, rows: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "data" / NAMES[category]
    path.parent.mkdir()
    path.write_bytes(rows[category])
    METADATA[metadata](path)
    served = serve(tmp_path, "dataset", "path", DATASET_SOURCE=path, CATEGORY=category)
    assert served["eligible"] is False and served["reason"]


def test_a_folder_and_a_link_are_no_proof(rows: dict[str, bytes], tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / hashlib.sha256(rows[rules.DATACENTER]).hexdigest()
    link = tmp_path / "snapshots" / "1" / "cnn_eval.json"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(rows[rules.DATACENTER])
    link.symlink_to(blob)
    served = serve(tmp_path, "dataset", "path", DATASET_SOURCE=link.parent)
    assert served["eligible"] is False


def test_the_cache_of_mlcommons_store_is_no_proof(rows: dict[str, bytes], tmp_path: Path) -> None:
    """The file lies where a download would have put it; offline nobody announces anything."""
    path = tmp_path / "cache" / "dataset" / "cnn_eval.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(rows[rules.DATACENTER])
    lists_beside(path)
    served = serve(tmp_path, "dataset", "mlcommons", R2_BASE_URL="http://127.0.0.1:9")
    assert served.get("eligible") is not True


def test_a_hub_cache_of_ones_own_is_no_proof(tmp_path: Path) -> None:
    base = tmp_path / "hf/hub" / f"datasets--{huggingface.REPOSITORY.replace('/', '--')}"
    body = b"PAR1 invented PAR1"
    blob = base / "blobs" / hashlib.sha256(body).hexdigest()
    link = base / "snapshots" / huggingface.REVISION / huggingface.FILE
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(body)
    link.symlink_to(os.path.relpath(blob, link.parent))
    env = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert serve(tmp_path, "dataset", "huggingface", env).get("eligible") is not True


@pytest.mark.parametrize("metadata", ["nothing", "lists", "memory"])
def test_weights_of_eight_bytes_are_never_official(metadata: str, tmp_path: Path) -> None:
    folder = attacks.model(tmp_path)
    weights = folder / "model.safetensors"
    if metadata == "lists":
        md5_list(weights, "llama3-1-8b-instruct.md5")
        (folder / "SHA256SUMS").write_text(
            f"{checkpoint.SHARDS[next(iter(checkpoint.SHARDS))]}  {weights.name}\n"
        )
    if metadata == "memory":
        state = weights.stat()
        key = f"{weights} {state.st_size} {state.st_mtime_ns}"
        memory = tmp_path / "cache" / "sha256.json"
        memory.parent.mkdir()
        memory.write_text(json.dumps({key: next(iter(checkpoint.SHARDS.values()))}))
    served = serve(tmp_path, "model", "path", MODEL=folder, ENGINE="vllm")
    assert served["eligible"] is False and served["reason"]


def test_shards_with_the_official_names_are_never_official(tmp_path: Path) -> None:
    folder = attacks.model(tmp_path)
    body = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    for name in checkpoint.SHARDS:
        (folder / name).write_bytes(body)
    index = {"weight_map": {f"t{n}": name for n, name in enumerate(checkpoint.SHARDS)}}
    (folder / checkpoint.INDEX).write_text(json.dumps(index))
    served = serve(tmp_path, "model", "path", MODEL=folder, ENGINE="vllm")
    assert served.get("eligible") is not True
