"""The dataset chain: each source serving, and each source saying why it cannot.

The network is a server on this machine that answers like the hub and the R2 store. A path of one's own:
test_dataset_path.py.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from dataset_support import EDGE, FULL, array, pin, settings, shrink
from datasets import Dataset
from standin_servers import Fault, Repo, StandIn
from standin_servers import serve as serve_stand_in

from mlperf_llama import config, rules
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance
from mlperf_llama.sources import chain as attempts
from mlperf_llama.sources import dataset
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.dataset import huggingface, mlcommons, official
from mlperf_llama.sources.dataset.rows import read_rows
from mlperf_llama.sources.fetch import publisher

pytestmark = pytest.mark.slow

# The hub's client is a process of its own, whose start alone may take seconds here.
HUB_STALL_S, HUB_HANG_S = "25", "8"
# The whole source, its Python child's start included, on a busy machine.
LEAVES_WITHIN_S = 30


@pytest.fixture(autouse=True)
def small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with serve_stand_in() as running:
        yield running


# --- the chain


def test_the_chain_is_the_settings() -> None:
    def sources(source: str) -> tuple[str, ...]:
        return dataset.chain(config.load({"DATASET_SOURCE": source}, {}))

    assert sources("auto") == dataset.CHAIN == ("mlcommons", "huggingface", "synthetic")
    assert sources("Synthetic") == ("synthetic",)
    assert sources("mlcommons") == ("mlcommons",)
    assert sources("data/cnn_eval.json") == ("path",)


def test_every_attempt_is_recorded_and_what_was_served_stays(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "results", "x")
    served = Served("path", "/data", "ab", False, "made up", rows=12, details={"md5": None})

    def broken() -> Served:
        raise ValueError("no reason of ours")

    attempts.attempt(run, "dataset", "path", lambda: served)
    with pytest.raises(ValueError, match="no reason"):
        attempts.attempt(run, "dataset", "mlcommons", broken)
    provided = run.read(Provenance).dataset
    assert provided is not None and run.read(Provenance).model is None
    assert (provided.source, provided.eligible, provided.rows) == ("path", False, 12)
    assert (provided.revision, provided.details) == (None, {"md5": None})
    assert [(a.rung, a.outcome, a.reason) for a in provided.attempts] == [
        ("path", "served", ""),
        ("mlcommons", "failed", "ValueError: no reason of ours"),
    ]


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found 'grammar'"):
        dataset.serve("grammar", settings(tmp_path), {})


# --- mlcommons

URI_NAME = official.OFFICIAL[rules.DATACENTER].uri_name
NO_TOOLS = {"PATH": "/nowhere"}


def from_mlcommons(tmp_path: Path, server: StandIn, **flags: str) -> Served:
    return dataset.serve("mlcommons", settings(tmp_path, server, **flags), NO_TOOLS)


def test_the_r2_store_serves_where_mlcr_cannot(tmp_path: Path, server: StandIn) -> None:
    server.add_r2(URI_NAME, {"cnn_eval.json": array()})
    served = from_mlcommons(tmp_path, server)
    assert len(read_rows(Path(served.path))) == FULL == served.rows
    assert served.details["way"] == "r2"
    # The stand-in is not MLCommons' store, and this file has no known checksum.
    assert not served.eligible
    assert f"{server.url} is not the publisher's own server" in served.reason
    asked = len(server.requests)
    assert from_mlcommons(tmp_path, server) == served
    assert len(server.requests) == asked
    Path(served.path).write_bytes(array().replace(b"a1", b"b1"))
    assert from_mlcommons(tmp_path, server) == served
    assert Path(served.path).read_bytes() == array()


def test_the_edge_file_and_a_known_checksum(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, array(EDGE), rules.EDGE)
    server.add_r2(official.OFFICIAL[rules.EDGE].uri_name, {"sample_cnn_eval_5000.json": array(EDGE)})
    served = from_mlcommons(tmp_path, server, CATEGORY="edge")
    assert served.eligible
    assert (served.rows, served.details["proof"]) == (EDGE, "SHA-256")


def test_mlcr_is_asked_first_and_by_the_documented_tags(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = tmp_path / "got"
    got.mkdir()
    (got / "cnn_eval.json").write_bytes(array())
    asked: list[str] = []

    def run(tags: tuple[str, ...], *rest: object) -> Path:
        asked.append(",".join(tags))
        return got

    monkeypatch.setattr(mlcommons.mlcr, "run", run)
    served = from_mlcommons(tmp_path, server)
    assert (served.path, served.details["way"]) == (str(got / "cnn_eval.json"), "mlcr")
    assert asked == ["get,dataset,cnndm,_validation,_datacenter,_llama3,_mlc,_r2-downloader"]
    assert server.requests == []


@pytest.mark.parametrize(
    ("where", "fault", "said"),
    [
        ("metadata", 401, "401"),
        ("metadata", 403, "403"),
        ("metadata", 404, "404"),
        ("metadata", 429, "429"),
        ("metadata", 503, "503"),
        ("metadata", "hang", "2 s"),
        ("metadata", "login", "service token"),
        ("bucket", "hang", "2 s"),
        ("bucket", "slow", "2 s"),
        ("bucket", "cut-off", "broke off"),
        ("bucket", "corrupt", "MD5"),
    ],
)
def test_each_fault_of_the_store_is_a_reason_in_one_line(
    tmp_path: Path, server: StandIn, where: str, fault: int | str, said: str
) -> None:
    server.add_r2(URI_NAME, {"cnn_eval.json": array()})
    server.fail(f"/{where}", Fault(fault))
    wanted = settings(tmp_path, server)
    run = RunFolder.create(tmp_path / "results", "x")
    started = time.monotonic()
    with pytest.raises(MissingError) as caught:
        attempts.attempt(run, "dataset", "mlcommons", lambda: dataset.serve("mlcommons", wanted, NO_TOOLS))
    assert time.monotonic() - started < LEAVES_WITHIN_S
    message = str(caught.value)
    assert message.startswith("mlcr: ")
    assert "; then r2: " in message
    assert said in message
    assert "\n" not in message
    dataset_record = run.read(Provenance).dataset
    assert dataset_record is not None
    (tried,) = dataset_record.attempts
    assert (tried.outcome, tried.reason) == ("failed", message)
    server.heal()
    assert from_mlcommons(tmp_path, server).rows == FULL


@pytest.mark.parametrize(
    ("content", "said"),
    [(array(3), "expected 12 rows, found 3"), (b"[{}]", "field input"), (b"", "empty file")],
)
def test_a_file_from_the_store_that_is_not_the_dataset(
    tmp_path: Path, server: StandIn, content: bytes, said: str
) -> None:
    server.add_r2(URI_NAME, {"cnn_eval.json": content})
    with pytest.raises(MissingError, match=said):
        from_mlcommons(tmp_path, server)


def test_a_store_that_holds_another_file(tmp_path: Path, server: StandIn) -> None:
    server.add_r2(URI_NAME, {"other.json": array()})
    with pytest.raises(MissingError, match=r"expected cnn_eval\.json in .*, found none"):
        from_mlcommons(tmp_path, server)


# --- huggingface


def parquet(count: int = FULL) -> bytes:
    columns = {
        "article": [f"article {i}\u2028é" for i in range(count)],
        "highlights": [f"summary {i}" for i in range(count)],
        "id": [str(i) for i in range(count)],
    }
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def with_hub(server: StandIn, content: bytes) -> None:
    files = {huggingface.FILE: content, "README.md": b"news"}
    server.add_repo(Repo("datasets", huggingface.REPOSITORY, huggingface.REVISION, files))
    server.tokens["hf_good"] = ()


def from_hub(
    tmp_path: Path,
    server: StandIn,
    category: str = rules.DATACENTER,
    stall_s: str = HUB_STALL_S,
    **more: str,
) -> Served:
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), **more}
    return dataset.serve("huggingface", settings(tmp_path, CATEGORY=category, SOURCE_STALL_S=stall_s), env)


def test_the_hub_serves_every_row_in_order(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hub(server, parquet())
    served = from_hub(tmp_path, server, HF_TOKEN="hf_good")
    rows = read_rows(Path(served.path))
    assert [row.article for row in rows] == [f"article {i}\u2028é" for i in range(FULL)]
    assert [row.reference for row in rows] == [f"summary {i}" for i in range(FULL)]
    assert (served.rows, served.revision) == (FULL, huggingface.REVISION)
    assert served.details["needs_reference_tokenizer"] is True
    assert all(h.get("authorization") == "Bearer hf_good" for _, _, h in server.requests)
    # A mirror's file has to have the checksum that is known.
    assert not served.eligible
    assert server.url in served.reason
    asked = len(server.requests)
    monkeypatch.setattr(huggingface, "SHA256", served.details["file_sha256"])
    again = from_hub(tmp_path, server)
    assert again.eligible
    assert again.path == served.path
    assert len(server.requests) == asked


def test_a_parquet_file_that_was_cut_off_is_fetched_again(tmp_path: Path, server: StandIn) -> None:
    with_hub(server, parquet())
    served = from_hub(tmp_path, server)
    file = Path(str(served.details["file"]))
    file.write_bytes(file.read_bytes()[:-100])
    assert from_hub(tmp_path, server) == served
    assert file.read_bytes() == parquet()


def test_edge_takes_the_references_shuffled_rows(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hub(server, parquet())
    monkeypatch.setattr(publisher, "HOSTS", (server.url,))
    served = from_hub(tmp_path, server, rules.EDGE)
    shuffled = Dataset.from_dict({"at": range(FULL)}).shuffle(seed=42)["at"]
    assert [row.reference for row in read_rows(Path(served.path))] == [
        f"summary {at}" for at in list(shuffled)[:EDGE]
    ]
    # The hub itself announces the file's SHA-256.
    assert served.eligible
    assert served.details["proof"] == "SHA256 announced by 127.0.0.1 in this run"


@pytest.mark.parametrize(
    ("fault", "said"),
    [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "404"), (429, "429"), (503, "503"), ("hang", "4 s")],
)
def test_a_hub_that_refuses_is_left_before_anything_is_loaded(
    tmp_path: Path, server: StandIn, fault: int | str, said: str
) -> None:
    with_hub(server, parquet())
    server.fail("/api", Fault(fault))
    started = time.monotonic()
    with pytest.raises(MissingError, match=said) as caught:
        from_hub(tmp_path, server, stall_s=HUB_HANG_S)
    assert time.monotonic() - started < LEAVES_WITHIN_S
    assert str(caught.value).startswith("huggingface: ")
    assert "\n" not in str(caught.value)
    assert not any("resolve" in path for path in server.paths())


@pytest.mark.parametrize("fault", [404, 503, "hang", "corrupt", "cut-off"])
def test_a_download_from_the_hub_that_fails(tmp_path: Path, server: StandIn, fault: int | str) -> None:
    with_hub(server, parquet())
    server.fail("/datasets", Fault(fault))
    started = time.monotonic()
    with pytest.raises(MissingError) as caught:
        from_hub(tmp_path, server, stall_s=HUB_HANG_S if fault in (503, "hang") else HUB_STALL_S)
    assert time.monotonic() - started < LEAVES_WITHIN_S
    assert str(caught.value).startswith(f"huggingface: {huggingface.FILE} from {server.url}: ")
    assert "\n" not in str(caught.value)
    folder = tmp_path / "cache" / "dataset" / "huggingface"
    assert list(folder.iterdir()) == []


def test_a_dataset_of_another_size(tmp_path: Path, server: StandIn) -> None:
    with_hub(server, parquet(4))
    with pytest.raises(MissingError, match="expected 12 rows, found 4"):
        from_hub(tmp_path, server)


def test_without_the_package_datasets(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="expected the package datasets"):
        from_hub(tmp_path, server)
