"""What makes weights official: the attacks that must fail, and the good paths that must stay."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import proof_support as support
import pytest
from proof_support import (
    OTHER_WEIGHTS,
    WEIGHTS,
    as_publisher,
    environment,
    model_files,
    replace_keeping_size_and_time,
    settings,
)
from standin_servers import CF_ID, CF_SECRET, Fault, Repo, StandIn, serve

from mlperf_llama import rules
from mlperf_llama.errors import UsageError
from mlperf_llama.records.schema import Provided
from mlperf_llama.sources import model
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.model import checkpoint, huggingface, mlcommons, proof, unchanged

pytestmark = pytest.mark.slow
TOKEN = "hf_standin"
CF = {"CF_ACCESS_CLIENT_ID": CF_ID, "CF_ACCESS_CLIENT_SECRET": CF_SECRET}
FIRST = next(iter(WEIGHTS))


@pytest.fixture(autouse=True)
def small_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    support.small_pins(monkeypatch)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with serve() as running:
        running.tokens = {TOKEN: (rules.MODEL_ID,)}
        yield running


def from_path(tmp_path: Path, folder: Path, **flags: str) -> Served:
    used = settings(tmp_path, "http://127.0.0.1:9", MODEL=str(folder), **flags)
    return model.serve("path", used, {})


def from_hub(tmp_path: Path, server: StandIn) -> Served:
    env = environment(tmp_path, server.url, HF_TOKEN=TOKEN)
    return model.serve("huggingface", settings(tmp_path, server.url), env)


def from_store(tmp_path: Path, server: StandIn) -> Served:
    return model.serve("mlcommons", settings(tmp_path, server.url), environment(tmp_path, server.url, **CF))


def with_hub(server: StandIn, files: dict[str, bytes]) -> None:
    server.repos = [Repo("models", rules.MODEL_ID, huggingface.PUBLISHED_REVISION, files, gated=True)]


# --- remembered hashes


def test_edited_memory_of_hashes_is_not_believed(tmp_path: Path) -> None:
    folder = support.write(model_files(OTHER_WEIGHTS), tmp_path / "model")
    assert not from_path(tmp_path, folder).eligible
    memory = tmp_path / "cache" / "sha256.json"
    known = {key: checkpoint.SHARDS[Path(key.split()[0]).name] for key in json.loads(memory.read_text())}
    memory.write_text(json.dumps(known))
    assert not from_path(tmp_path, folder).eligible
    assert not from_path(tmp_path, folder, SAMPLES="4").eligible


def test_content_replaced_with_size_and_time_kept_is_noticed(tmp_path: Path) -> None:
    folder = support.write(model_files(), tmp_path / "model")
    served = from_path(tmp_path, folder)
    assert (served.eligible, served.details["proof"]) == (True, proof.PINNED)
    assert served.details["hashes"] == "of the bytes, in this run"
    replace_keeping_size_and_time(folder / FIRST)
    served = from_path(tmp_path, folder)
    assert not served.eligible
    assert f"{FIRST} differ" in served.reason


@pytest.mark.parametrize("flags", [{"SAMPLES": "4"}, {"IGNORE_EOS": "1"}])
def test_a_trial_run_may_remember_and_says_so(tmp_path: Path, flags: dict[str, str]) -> None:
    folder = support.write(model_files(), tmp_path / "model")
    assert from_path(tmp_path, folder).eligible
    served = from_path(tmp_path, folder, **flags)
    assert not served.eligible
    assert "trial run" in served.reason
    assert served.details["hashes"] == "remembered by path, size and time"
    assert from_path(tmp_path, folder).eligible


def test_an_md5_list_and_a_checksum_file_beside_the_weights_prove_nothing(tmp_path: Path) -> None:
    folder = support.write(model_files(OTHER_WEIGHTS), tmp_path / "model")
    for name, kind in (("llama3-1-8b-instruct.md5", "md5"), ("SHA256SUMS", "sha256")):
        lines = (f"{hashlib.new(kind, body).hexdigest()}  ./{n}\n" for n, body in OTHER_WEIGHTS.items())
        (folder / name).write_text("".join(lines))
    assert not from_path(tmp_path, folder).eligible


def test_a_tokenizer_that_only_acts_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**model_files(), "tokenizer.json": b'{"model": {"other": 1}}'}
    folder = support.write(files, tmp_path / "model")
    monkeypatch.setattr(proof.tokens, "is_reference_tokenizer", lambda path: True)
    served = from_path(tmp_path, folder)
    assert not served.eligible
    assert "its bytes are others" in served.reason


# --- huggingface


def test_blobs_named_by_their_own_hashes_prove_nothing(tmp_path: Path, server: StandIn) -> None:
    revision = huggingface.PUBLISHED_REVISION
    support.hub_cache(tmp_path / "hf", "models", rules.MODEL_ID, revision, model_files(OTHER_WEIGHTS))
    served = from_hub(tmp_path, server)
    assert not served.eligible
    assert f"{server.url} is not the publisher's own server" in served.reason


def test_the_pinned_weights_are_official_from_a_mirror_too(tmp_path: Path, server: StandIn) -> None:
    with_hub(server, model_files())
    assert from_hub(tmp_path, server).eligible
    server.requests.clear()
    assert from_hub(tmp_path, server).eligible
    assert server.requests == []


def test_the_hub_announces_weights_that_no_pin_knows(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hub(server, model_files(OTHER_WEIGHTS))
    assert not from_hub(tmp_path, server).eligible
    as_publisher(monkeypatch, server)
    served = from_hub(tmp_path, server)
    assert (served.eligible, served.reason) == (True, "")
    record = support.announced(served)
    assert record["revision"] == huggingface.PUBLISHED_REVISION
    assert str(record["url"]).startswith(f"{server.url}/api/models/{rules.MODEL_ID}/tree/")
    # A shard more is announced than is here; then others; then nothing.
    with_hub(server, {**model_files(OTHER_WEIGHTS), "model-5.safetensors": b"x"})
    assert not from_hub(tmp_path, server).eligible
    with_hub(server, model_files(WEIGHTS))
    assert "announces others" in from_hub(tmp_path, server).reason
    server.fail("/api", Fault(503))
    assert "503" in from_hub(tmp_path, server).reason


# --- mlcommons


def test_the_stores_own_list_of_this_run_counts(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"Llama/{name}": body for name, body in model_files(OTHER_WEIGHTS).items()}
    server.add_r2(mlcommons.NAME, files, protected=True)
    assert not from_store(tmp_path, server).eligible
    as_publisher(monkeypatch, server)
    served = from_store(tmp_path, server)
    assert (served.eligible, served.reason) == (True, "")
    assert support.announced(served)["algorithm"] == "md5"
    assert served.details["shards"] == {n: support.sha256(body) for n, body in OTHER_WEIGHTS.items()}
    replace_keeping_size_and_time(Path(served.path) / FIRST)
    assert not from_store(tmp_path, server).eligible


# --- config.json beside the official weights


@pytest.mark.parametrize(
    "changed",
    [
        {"layer_types": ["sliding_attention"] * 32, "sliding_window": 64},
        {"logit_scale": 2.0},
        {"rms_norm_eps": 1e-6},
        {"rope_theta": 10000.0},
        {"hidden_act": "relu"},
        {"tie_word_embeddings": True},
        {"a_key_of_tomorrow": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_config_that_makes_another_model_of_them(changed: dict[str, object], tmp_path: Path) -> None:
    files = model_files()
    files["config.json"] = json.dumps({**json.loads(files["config.json"]), **changed}).encode()
    served = from_path(tmp_path, support.write(files, tmp_path / "model"))
    assert not served.eligible
    assert next(iter(changed)) in served.reason


# --- files beside the official ones


@pytest.mark.parametrize(
    "name",
    [
        "consolidated.safetensors",
        "params.json",
        "hf_quant_config.json",
        "model-00005-of-00005.safetensors",
        "pytorch_model.bin",
        "modeling_mine.py",
    ],
)
def test_a_file_that_the_engine_would_read_as_well(name: str, tmp_path: Path) -> None:
    """vLLM takes consolidated*.safetensors before the shards that the index names."""
    folder = support.write({**model_files(), name: b"{}"}, tmp_path / "model")
    served = from_path(tmp_path, folder)
    assert not served.eligible
    assert f"also holds {name}" in served.reason


def test_files_that_no_engine_reads_do_no_harm(tmp_path: Path) -> None:
    files = dict.fromkeys(("LICENSE", "README.md", "llama.md5", ".complete.json", "tokenizer.model"), b"")
    folder = support.write({**model_files(), **files}, tmp_path / "model")
    support.write({"consolidated.00.pth": b"", "params.json": b"{}"}, folder / "original")
    served = from_path(tmp_path, folder)
    assert (served.eligible, served.reason) == (True, "")


@pytest.mark.parametrize("ids", [[128001, 128008, 128009, 13], [128001]])
def test_answers_that_would_end_elsewhere(ids: list[int], tmp_path: Path) -> None:
    files = {**model_files(), "generation_config.json": json.dumps({"eos_token_id": ids}).encode()}
    served = from_path(tmp_path, support.write(files, tmp_path / "model"))
    assert not served.eligible and "would end at" in served.reason


# --- between the proof and the engine


def swapped_and_back(folder: Path) -> None:
    (folder / FIRST).rename(folder / "aside")
    (folder / FIRST).write_bytes(WEIGHTS[FIRST])
    (folder / FIRST).unlink()
    (folder / "aside").rename(folder / FIRST)


def beside_and_gone(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"")
    (folder / "consolidated.safetensors").unlink()


def link_swapped_and_back(folder: Path) -> None:
    """As a hub's cache links its blobs."""
    target = (folder / "config.json").readlink()
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(target)


BETWEEN = {
    "replaced": (lambda folder: replace_keeping_size_and_time(folder / FIRST), FIRST),
    "swapped and back": (swapped_and_back, FIRST),
    "a file beside, and gone": (beside_and_gone, "."),
    "a link swapped and back": (link_swapped_and_back, "config.json"),
    "gone": (lambda folder: (folder / FIRST).unlink(), FIRST),
}


@pytest.fixture
def proven(tmp_path: Path) -> Provided:
    """Official weights, their config.json a link."""
    folder = support.write(model_files(), tmp_path / "model")
    (folder / "config.json").rename(tmp_path / "blob")
    (folder / "config.json").symlink_to(tmp_path / "blob")
    served = from_path(tmp_path, folder)
    return Provided(path=served.path, sha256=served.sha256, details=dict(served.details))


def test_files_that_an_engine_has_only_read_are_as_they_were(proven: Provided) -> None:
    for path in Path(str(proven.path)).iterdir():
        path.read_bytes()
    unchanged.check_loaded(proven)
    unchanged.check_loaded(Provided())


@pytest.mark.parametrize("how", BETWEEN)
def test_files_changed_between_their_proof_and_loading(how: str, proven: Provided) -> None:
    change, named = BETWEEN[how]
    time.sleep(0.01)
    change(Path(str(proven.path)))
    with pytest.raises(UsageError, match=rf"found that {re.escape(named)} changed before the engine"):
        unchanged.check_loaded(proven)


# meta-llama/Llama-3.1-8B-Instruct's config.json at the published revision, whole.
PUBLISHED_CONFIG = """{
  "architectures": ["LlamaForCausalLM"],
  "attention_bias": false,
  "attention_dropout": 0.0,
  "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009],
  "hidden_act": "silu",
  "hidden_size": 4096,
  "initializer_range": 0.02,
  "intermediate_size": 14336,
  "max_position_embeddings": 131072,
  "mlp_bias": false,
  "model_type": "llama",
  "num_attention_heads": 32,
  "num_hidden_layers": 32,
  "num_key_value_heads": 8,
  "pretraining_tp": 1,
  "rms_norm_eps": 1e-05,
  "rope_scaling": {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3"
  },
  "rope_theta": 500000.0,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.42.3",
  "use_cache": true,
  "vocab_size": 128256
}"""


def test_the_config_as_the_hub_has_it(tmp_path: Path) -> None:
    files = {**model_files(), "config.json": PUBLISHED_CONFIG.encode()}
    served = from_path(tmp_path, support.write(files, tmp_path / "model"))
    assert (served.eligible, served.reason) == (True, "")


@pytest.mark.parametrize("key", json.loads(PUBLISHED_CONFIG)["rope_scaling"])
def test_a_rotary_scaling_that_lacks_a_number_is_another(key: str, tmp_path: Path) -> None:
    config = json.loads(PUBLISHED_CONFIG)
    del config["rope_scaling"][key]
    files = {**model_files(), "config.json": json.dumps(config).encode()}
    served = from_path(tmp_path, support.write(files, tmp_path / "model"))
    assert not served.eligible and "rotary" in served.reason
