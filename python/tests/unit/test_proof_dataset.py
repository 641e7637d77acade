"""What makes a dataset official: the attacks that must fail, and the good paths that must stay."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import proof_support as support
import pytest
from proof_support import INVENTED, OFFICIAL, as_publisher, environment, parquet, settings
from standin_servers import Fault, Repo, StandIn, serve

from mlperf_llama import rules
from mlperf_llama.sources import dataset
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.dataset import huggingface, official

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
URI_NAME = official.OFFICIAL[rules.DATACENTER].uri_name
NO_TOOLS = {"PATH": "/nowhere"}


@pytest.fixture(autouse=True)
def small_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    support.small_pins(monkeypatch)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with serve() as running:
        yield running


def from_path(tmp_path: Path, server: StandIn, body: bytes, listing: str = "") -> Served:
    file = tmp_path / "data" / "cnn_eval.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(body)
    if listing:
        md5 = hashlib.md5(body).hexdigest()
        (file.parent / listing).write_text(f"{md5}  ./cnn_eval.json\n")
    return dataset.serve("path", settings(tmp_path, server.url, DATASET_SOURCE=str(file.parent)), {})


def from_store(tmp_path: Path, server: StandIn) -> Served:
    return dataset.serve("mlcommons", settings(tmp_path, server.url), NO_TOOLS)


def from_hub(tmp_path: Path, server: StandIn, **more: str) -> Served:
    return dataset.serve(
        "huggingface", settings(tmp_path, server.url), environment(tmp_path, server.url, **more)
    )


def with_hub(server: StandIn, content: bytes) -> None:
    files = {huggingface.FILE: content}
    server.repos = [Repo("datasets", huggingface.REPOSITORY, huggingface.REVISION, files)]


def announced(served: Served) -> dict[str, object]:
    record = served.details["announcement"]
    assert isinstance(record, dict)
    return record


# --- a path


def test_the_pinned_file_is_official_and_nobody_is_asked(tmp_path: Path, server: StandIn) -> None:
    served = from_path(tmp_path, server, OFFICIAL)
    assert (served.eligible, served.reason) == (True, "")
    assert served.details["proof"] == "SHA-256"
    assert server.requests == []


@pytest.mark.parametrize("listing", [f"{URI_NAME}.md5", "cnn_eval.json.md5", "sums.md5"])
def test_an_md5_list_beside_the_file_proves_nothing(tmp_path: Path, server: StandIn, listing: str) -> None:
    served = from_path(tmp_path, server, INVENTED, listing)
    assert not served.eligible
    assert "no published checksum verifies the file" in served.reason


def test_a_mirror_cannot_announce(tmp_path: Path, server: StandIn) -> None:
    server.add_r2(URI_NAME, {"cnn_eval.json": INVENTED})
    served = from_path(tmp_path, server, INVENTED)
    assert not served.eligible
    assert f"{server.url} is not the publisher's own server" in served.reason
    assert server.requests == []


def test_the_publishers_own_list_of_this_run_counts(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_publisher(monkeypatch, server)
    server.add_r2(URI_NAME, {"cnn_eval.json": array_of_today()})
    served = from_path(tmp_path, server, array_of_today())
    assert (served.eligible, served.reason) == (True, "")
    record = announced(served)
    assert record["url"] == f"{server.url}/metadata/{URI_NAME}.md5"
    assert record["algorithm"] == "md5" and record["time"]
    assert served.sha256 == support.sha256(array_of_today())
    assert not from_path(tmp_path, server, INVENTED).eligible
    # What was announced once is not remembered.
    server.fail("/metadata", Fault(503))
    assert not from_path(tmp_path, server, array_of_today()).eligible


def array_of_today() -> bytes:
    """A file that MLCommons has and no pin knows."""
    return support.array("of today")


# --- mlcommons


@pytest.mark.parametrize("more", [{}, {"doubts": [], "details": {"proof": "SHA-256", "md5": "0" * 32}}])
def test_a_hand_written_record_of_the_cache_is_not_believed(
    tmp_path: Path, server: StandIn, more: dict[str, object]
) -> None:
    folder = tmp_path / "cache" / "dataset" / "mlcommons"
    folder.mkdir(parents=True)
    (folder / "cnn_eval.json").write_bytes(INVENTED)
    used = settings(tmp_path, server.url)
    record = {
        "key": f"{used.category} {used.r2_base_url} {used.mlc_repo}",
        "path": str(folder / "cnn_eval.json"),
        "sha256": support.sha256(INVENTED),
        "way": "r2",
    }
    (folder / f"{used.category}.json").write_text(json.dumps({**record, **more}))
    served = from_store(tmp_path, server)
    assert not served.eligible
    assert served.details["proof"] is None


@pytest.mark.parametrize(("own", "right"), [(True, True), (False, True), (True, False)])
def test_a_file_of_the_store_that_no_pin_knows(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, own: bool, right: bool
) -> None:
    """Official as MLCommons' own store announces it in this run, out of the cache too; no mirror's is."""
    if own:
        as_publisher(monkeypatch, server)
    server.add_r2(URI_NAME, {"cnn_eval.json": array_of_today()})
    assert from_store(tmp_path, server).eligible is own
    if not right:
        server.add_r2(URI_NAME, {"cnn_eval.json": INVENTED})
    assert from_store(tmp_path, server).eligible is (own and right)
    server.fail("/metadata", Fault(503))
    assert not from_store(tmp_path, server).eligible


def test_the_pinned_file_is_official_from_a_mirror_too(tmp_path: Path, server: StandIn) -> None:
    server.add_r2(URI_NAME, {"cnn_eval.json": OFFICIAL})
    assert from_store(tmp_path, server).eligible
    asked = len(server.requests)
    assert from_store(tmp_path, server).eligible
    assert len(server.requests) == asked


# --- huggingface


def test_a_blob_named_by_its_own_hash_proves_nothing(tmp_path: Path, server: StandIn) -> None:
    files = {huggingface.FILE: parquet("invented")}
    support.hub_cache(tmp_path / "hf", "datasets", huggingface.REPOSITORY, huggingface.REVISION, files)
    served = from_hub(tmp_path, server, HF_HUB_OFFLINE="1", HF_ENDPOINT="https://huggingface.co")
    assert not served.eligible
    assert "HF_HUB_OFFLINE" in served.reason


def test_the_hub_announces_and_a_mirror_does_not(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hub(server, parquet("of today"))
    served = from_hub(tmp_path, server)
    assert not served.eligible
    assert f"{server.url} is not the publisher's own server" in served.reason
    as_publisher(monkeypatch, server)
    served = from_hub(tmp_path, server)
    assert (served.eligible, served.reason) == (True, "")
    assert announced(served)["revision"] == huggingface.REVISION
    assert not from_hub(tmp_path, server, HF_HUB_OFFLINE="1").eligible
    # The file is in the cache, and the hub announces another one.
    with_hub(server, parquet("another"))
    assert "announces another file" in from_hub(tmp_path, server).reason


@pytest.mark.parametrize("category", [rules.DATACENTER, rules.EDGE])
def test_rows_that_are_not_the_pinned_files(tmp_path: Path, server: StandIn, category: str) -> None:
    """The parquet file is right; the rows in the cache, and their record, were written by hand."""
    with_hub(server, parquet())
    used = settings(tmp_path, server.url, CATEGORY=category)
    env = environment(tmp_path, server.url)
    served = dataset.serve("huggingface", used, env)
    assert (served.eligible, served.details["proof"]) == (True, "SHA-256")
    rows = Path(served.path)
    rows.write_bytes(rows.read_bytes().replace(b"a 1", b"b 1"))
    record = rows.with_name(f"{category}.json")
    data = {**json.loads(record.read_text()), "sha256": support.sha256(rows.read_bytes())}
    record.write_text(json.dumps(data))
    served = dataset.serve("huggingface", used, env)
    assert not served.eligible
    assert "its rows are not those of" in served.reason


# --- the shipped entrypoint


def test_an_invented_file_with_its_list_through_the_entrypoint(tmp_path: Path, server: StandIn) -> None:
    """Full length, an MD5 list beside it, and a mirror that announces it."""
    body = support.array("invented", 13368)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cnn_eval.json").write_bytes(body)
    md5 = hashlib.md5(body).hexdigest()
    (tmp_path / "data" / f"{URI_NAME}.md5").write_text(f"{md5}  ./cnn_eval.json\n")
    server.add_r2(URI_NAME, {"cnn_eval.json": body})
    chosen = {
        "ENGINE": "fake",
        "MODE": "performance",
        "DATASET_SOURCE": str(tmp_path / "data"),
        "R2_BASE_URL": f"{server.url}/metadata",
        "RESULTS_DIR": str(tmp_path / "results"),
        "CACHE_DIR": str(tmp_path / "cache"),
        "ENV_FILE": os.devnull,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    kept = {"MLPERF_VENV": os.environ["MLPERF_VENV"]} if "MLPERF_VENV" in os.environ else {}
    given = {f"MLPERF_{name}": value for name, value in chosen.items()}
    env = {**clean, **kept, **given}
    created = entrypoint(env, "create-run")
    (line,) = [line for line in created.splitlines() if line.startswith("run_dir=")]
    folder = Path(line.partition("=")[2])
    entrypoint(env, "dataset", "path", "--run-dir", str(folder))
    provided = json.loads((folder / "provenance.json").read_text())["dataset"]
    assert provided["eligible"] is False
    assert "no published checksum verifies the file" in provided["reason"]


def entrypoint(env: dict[str, str], *arguments: str) -> str:
    """stdout of `entrypoint.sh ARGUMENTS`, which must end well."""
    command = [ROOT / "entrypoint.sh", *arguments]
    ended = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
