"""The model chain against local servers: every source, its reasons and what it is worth."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import standin_servers
from standin_servers import CF_ID, CF_SECRET, Fault, Repo, StandIn

from mlperf_llama import config as configs
from mlperf_llama import rules
from mlperf_llama.config import Config
from mlperf_llama.errors import MissingError, PipelineError, UsageError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance
from mlperf_llama.sources import chain, model
from mlperf_llama.sources.fetch import hub
from mlperf_llama.sources.model import checkpoint, huggingface, shape, tokens

pytestmark = pytest.mark.slow

TOKEN = "hf_standin"
STALL_S = 3
CF = {"CF_ACCESS_CLIENT_ID": CF_ID, "CF_ACCESS_CLIENT_SECRET": CF_SECRET}


def shard(tensor: bytes) -> bytes:
    """A safetensors file of one tensor."""
    header = json.dumps({"t": {"dtype": "U8", "shape": [len(tensor)], "data_offsets": [0, len(tensor)]}})
    return len(header).to_bytes(8, "little") + header.encode() + tensor


SHARDS = {name: shard(name.encode() * 9) for name in checkpoint.SHARDS}
ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
FILES: dict[str, bytes] = {
    "config.json": json.dumps({**shape.CONFIG, "rope_scaling": ROPE, "eos_token_id": 128001}).encode(),
    "generation_config.json": json.dumps({"eos_token_id": list(rules.EOS_IDS)}).encode(),
    "tokenizer.json": b'{"model": {}}',
    checkpoint.INDEX: json.dumps({"weight_map": {f"t{n}": name for n, name in enumerate(SHARDS)}}).encode(),
    **SHARDS,
}


@pytest.fixture(autouse=True)
def small_official_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published hashes, replaced by those of files of a few bytes."""
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in SHARDS.items()}
    monkeypatch.setattr(checkpoint, "SHARDS", hashes)
    digest = hashlib.sha256(FILES["tokenizer.json"]).hexdigest()
    monkeypatch.setattr(tokens, "REFERENCE_SHA256", digest)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standin_servers.serve() as stand_in:
        stand_in.add_repo(Repo("models", rules.MODEL_ID, huggingface.PUBLISHED_REVISION, FILES, gated=True))
        stand_in.tokens = {TOKEN: (rules.MODEL_ID,), "hf_noaccess": ()}
        yield stand_in


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "results", "test")


def settings(tmp_path: Path, **flags: str) -> Config:
    return configs.load({"CACHE_DIR": str(tmp_path / "cache"), "SOURCE_STALL_S": str(STALL_S), **flags}, {})


def environment(server: StandIn | None, tmp_path: Path, **more: str) -> dict[str, str]:
    where = {"HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path)}
    where |= {"HF_ENDPOINT": server.url} if server else {}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CF_"))}
    return {**kept, **where, **more}


def folder_of(files: Mapping[str, bytes], path: Path) -> Path:
    for name, body in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(body)
    return path


def with_config(**changes: Any) -> dict[str, bytes]:
    data = {**json.loads(FILES["config.json"]), **changes}
    return {**FILES, "config.json": json.dumps(data).encode()}


# The order of sources


@pytest.mark.parametrize(
    ("flags", "sources"),
    [
        ({}, ("mlcommons", "huggingface", "stand-in")),
        ({"ENGINE": "fake"}, ("fake",)),
        ({"MODEL": "stand-in"}, ("stand-in",)),
        ({"MODEL": "huggingface", "ENGINE": "fake"}, ("huggingface",)),
        ({"MODEL": "/models/mine"}, ("path",)),
        ({"MODEL": "someone/model"}, ("path",)),
    ],
)
def test_chain(tmp_path: Path, flags: dict[str, str], sources: tuple[str, ...]) -> None:
    assert model.chain(settings(tmp_path, **flags)) == sources


def test_the_fake_model_is_for_the_fake_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs ENGINE=fake"):
        model.chain(settings(tmp_path, MODEL="fake"))
    with pytest.raises(UsageError, match="expected one of"):
        model.serve("elsewhere", settings(tmp_path), {})


# huggingface


def test_huggingface_serves_the_official_model(server: StandIn, tmp_path: Path) -> None:
    env = environment(server, tmp_path, HF_TOKEN=TOKEN)
    served = model.serve("huggingface", settings(tmp_path), env)
    assert (served.source, served.eligible, served.reason) == ("huggingface", True, "")
    # The revision of the reference's README is not one of this repository.
    assert served.revision == huggingface.PUBLISHED_REVISION
    assert served.details["shards"] == checkpoint.SHARDS
    assert {path.name for path in Path(served.path).iterdir()} == set(FILES)
    assert model.stop_ids(Path(served.path)) == rules.EOS_IDS
    # Again, without a token and with the server's log empty: from the cache alone.
    server.requests.clear()
    del env["HF_TOKEN"]
    assert model.serve("huggingface", settings(tmp_path), env) == served
    assert server.requests == []


def test_huggingface_prefers_the_reference_revision(server: StandIn, tmp_path: Path) -> None:
    server.repos[0] = replace(server.repos[0], revision=rules.MODEL_REVISION)
    env = environment(server, tmp_path, HF_TOKEN=TOKEN)
    assert model.serve("huggingface", settings(tmp_path), env).revision == rules.MODEL_REVISION


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "HF_TOKEN is not set; open https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct"),
        ("hf_wrong", "HTTP 401: the credentials are missing or wrong; HF_TOKEN is wrong or expired"),
        ("hf_noaccess", "open https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct, log in and accept"),
    ],
)
def test_huggingface_says_what_is_wrong_with_the_token(
    server: StandIn, tmp_path: Path, token: str, words: str
) -> None:
    env = environment(server, tmp_path, **({"HF_TOKEN": token} if token else {}))
    with pytest.raises(MissingError) as caught:
        model.serve("huggingface", settings(tmp_path), env)
    assert words in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)
    assert not token or token not in str(caught.value)
    assert bool(server.requests) == bool(token), "without a token the network is left alone"


# Fault -> what the reason says of it.
FAULTS: dict[int | str, str] = {
    401: "401",
    403: "403",
    404: "",
    429: "429",
    503: "503",
    "hang": "",
    "slow": "",
    "cut-off": "(received|read)",
    "corrupt": "the next run fetches it again",
    "login": "",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_huggingface_is_left_at_every_fault(
    server: StandIn, tmp_path: Path, run: RunFolder, kind: int | str
) -> None:
    """At the first request: the check of the token."""
    server.fail(f"/{rules.MODEL_ID}", Fault(kind))
    _left(run, tmp_path, environment(server, tmp_path, HF_TOKEN=TOKEN), FAULTS[kind])


@pytest.mark.parametrize("kind", FAULTS)
def test_huggingface_is_left_at_every_fault_of_the_weights(
    server: StandIn, tmp_path: Path, run: RunFolder, kind: int | str
) -> None:
    name = next(iter(SHARDS))
    server.fail(f"/{rules.MODEL_ID}/resolve/{huggingface.PUBLISHED_REVISION}/{name}", Fault(kind))
    _left(run, tmp_path, environment(server, tmp_path, HF_TOKEN=TOKEN), FAULTS[kind])


def _left(run: RunFolder, tmp_path: Path, env: dict[str, str], words: str) -> None:
    """The source ends in time with a reason, which is on record in one line without the token."""
    started = time.monotonic()
    with pytest.raises(PipelineError) as caught:
        chain.attempt(
            run, "model", "huggingface", lambda: model.serve("huggingface", settings(tmp_path), env)
        )
    assert time.monotonic() - started < 30
    assert isinstance(caught.value, MissingError)
    provided = run.read(Provenance).model
    assert provided is not None
    (recorded,) = provided.attempts
    assert (recorded.rung, recorded.outcome) == ("huggingface", "failed")
    assert recorded.reason == str(caught.value)
    assert re.search(words, recorded.reason)
    assert "\n" not in recorded.reason
    assert TOKEN not in recorded.reason


def test_bytes_that_changed_in_a_folder_of_ones_own_are_noticed(server: StandIn, tmp_path: Path) -> None:
    served = model.serve("huggingface", settings(tmp_path), environment(server, tmp_path, HF_TOKEN=TOKEN))
    weights = Path(served.path) / next(iter(SHARDS))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(MissingError, match=r"corrupted: its SHA-256 is .*; remove it and run again"):
        model.serve("path", settings(tmp_path, MODEL=served.path), {})


def cut(path: Path) -> None:
    path.resolve().write_bytes(path.read_bytes()[:-3])


def changed(path: Path) -> None:
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"!")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut off": cut,
    "changed": changed,
    "its link gone": Path.unlink,
    "its content gone": lambda path: path.resolve().unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_hubs_cache_heals(server: StandIn, tmp_path: Path, damage: str) -> None:
    """Whatever file of it is harmed, the next run fetches just that one again."""
    env = environment(server, tmp_path, HF_TOKEN=TOKEN)
    first = model.serve("huggingface", settings(tmp_path), env)
    # A link that is gone leaves no trace where the model can be loaded without the file.
    names = [n for n in FILES if damage != "its link gone" or n in ("config.json", *list(SHARDS)[1:2])]
    for name in names:
        DAMAGE[damage](Path(first.path) / name)
    server.requests.clear()
    again = model.serve("huggingface", settings(tmp_path), env)
    assert (again.path, again.sha256, again.eligible) == (first.path, first.sha256, True)
    assert {name: (Path(again.path) / name).read_bytes() for name in FILES} == FILES
    assert server.requests
    server.requests.clear()
    assert model.serve("huggingface", settings(tmp_path), env) == again and not server.requests


# mlcommons


def test_mlcommons_without_a_token_leaves_the_network_alone(server: StandIn, tmp_path: Path) -> None:
    config = settings(tmp_path, R2_MODEL_URL=server.url + "/metadata")
    with pytest.raises(MissingError, match="set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET"):
        model.serve("mlcommons", config, environment(None, tmp_path))
    assert server.requests == []


def test_mlcommons_goes_to_the_store_where_mlcr_cannot(server: StandIn, tmp_path: Path) -> None:
    server.add_r2("llama3-1-8b-instruct", {f"Llama/{n}": b for n, b in FILES.items()}, protected=True)
    flags = {"R2_MODEL_URL": server.url + "/metadata", "MLC_REPO": str(tmp_path / "absent.git")}
    served = model.serve("mlcommons", settings(tmp_path, **flags), environment(None, tmp_path, **CF))
    assert served.eligible
    assert served.details["way"] == "r2"
    assert Path(served.path).name == "Llama"


def test_mlcommons_gives_both_reasons(server: StandIn, tmp_path: Path) -> None:
    server.add_r2("llama3-1-8b-instruct", FILES, protected=True)
    flags = {"R2_MODEL_URL": server.url + "/metadata", "MLC_REPO": str(tmp_path / "absent.git")}
    env = environment(None, tmp_path, **{**CF, "CF_ACCESS_CLIENT_SECRET": "wrong"})
    with pytest.raises(MissingError) as caught:
        model.serve("mlcommons", settings(tmp_path, **flags), env)
    assert "the service token was refused" in str(caught.value)
    assert "the script repository" in str(caught.value)


# path


def test_a_folder_with_the_official_weights_is_eligible(tmp_path: Path) -> None:
    config = settings(tmp_path, MODEL=str(folder_of(FILES, tmp_path / "model")))
    served = model.serve("path", config, {})
    assert served.eligible
    assert served.sha256 == checkpoint.combined(checkpoint.SHARDS)
    # Hashes are remembered; a file that changed is read again.
    (tmp_path / "model" / next(iter(SHARDS))).write_bytes(shard(b"other weights"))
    assert "differ" in model.serve("path", config, {}).reason


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (with_config(hidden_size=576), "not Llama-3.1-8B: hidden_size is 576, not 4096"),
        (with_config(rope_scaling=None), "rotary scaling"),
        (with_config(quantization_config={"quant_method": "fp8"}), "quantised weights (fp8)"),
        ({**FILES, next(iter(SHARDS)): shard(b"tuned")}, "model-00001-of-00004.safetensors differ"),
    ],
)
def test_other_models_run_but_are_not_eligible(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    config = settings(tmp_path, MODEL=str(folder_of(files, tmp_path / "model")))
    served = model.serve("path", config, {})
    assert not served.eligible
    assert reason in served.reason


def test_another_tokenizer_is_not_eligible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path, MODEL=str(folder_of(FILES, tmp_path / "model")))
    fake = model.serve("fake", settings(tmp_path, ENGINE="fake"), {})
    tokenizer = (Path(fake.path) / "tokenizer.json").read_bytes()
    (tmp_path / "model" / "tokenizer.json").write_bytes(tokenizer)
    assert model.serve("path", config, {}).reason == "the tokenizer is not Llama 3.1's"


def without(name: str) -> dict[str, bytes]:
    return {file: body for file, body in FILES.items() if file != name}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (without("config.json"), "expected config.json, found none"),
        ({**FILES, "config.json": b"{"}, "line 1"),
        ({**FILES, "config.json": b"[]"}, "expected a JSON object"),
        (with_config(model_type="gpt2"), "expected a Llama-architecture model, found 'gpt2'"),
        (without("tokenizer.json"), "expected tokenizer.json or tokenizer.model"),
        (
            without("model-00003-of-00004.safetensors"),
            "model-00003-of-00004.safetensors: expected this shard",
        ),
        (
            {**FILES, "model-00002-of-00004.safetensors": shard(b"x" * 99)[:-5]},
            "expected 169 bytes, found 164",
        ),
        ({**FILES, "model-00002-of-00004.safetensors": b""}, "found no valid header"),
        ({n: b for n, b in FILES.items() if "safetensors" not in n}, "expected *.safetensors, found none"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_a_usage_error(
    tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    config = settings(tmp_path, MODEL=str(folder_of(files, tmp_path / "model")))
    with pytest.raises(UsageError) as caught:
        model.serve("path", config, {})
    assert str(caught.value).startswith("MODEL: ")
    assert words in str(caught.value)


def test_neither_a_folder_nor_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a checkpoint folder or a Hub id"):
        model.serve("path", settings(tmp_path, MODEL=str(tmp_path / "absent")), {})


def test_the_fake_engine_takes_a_folder_without_weights(tmp_path: Path) -> None:
    files = {name: body for name, body in FILES.items() if "safetensors" not in name}
    folder = folder_of(files, tmp_path / "model")
    served = model.serve("path", settings(tmp_path, MODEL=str(folder), ENGINE="fake"), {})
    assert (served.path, served.eligible) == (str(folder), False)


def test_a_hub_id_is_downloaded(server: StandIn, tmp_path: Path) -> None:
    files = with_config(hidden_size=64)
    server.add_repo(Repo("models", "someone/model", "b" * 40, {**files, "original/x.pth": b"big"}))
    env = environment(server, tmp_path)
    served = model.serve("path", settings(tmp_path, MODEL="someone/model"), env)
    assert (served.revision, served.eligible) == ("b" * 40, False)
    assert "/someone/model/resolve/main/original/x.pth" not in server.paths()
    assert all(path.startswith(str(hub.cache_dir(env))) for path in [served.path])
    pinned = model.serve("path", settings(tmp_path, MODEL=f"someone/model@{'b' * 40}"), env)
    assert pinned.path == served.path
    with pytest.raises(MissingError, match="HTTP 404"):
        model.serve("path", settings(tmp_path, MODEL=f"someone/model@{'c' * 40}"), env)
