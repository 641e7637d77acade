"""Calibration articles: each source serving, each saying why it cannot, and what makes them official."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import proof_support as support
import pyarrow
import pyarrow.parquet
import pytest
from proof_support import as_publisher, environment, settings
from standin_servers import Fault, Repo, StandIn, serve

from mlperf_llama import rules
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.records.schema import Provided
from mlperf_llama.sources import calibration
from mlperf_llama.sources.calibration import huggingface, official
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.dataset.rows import read_rows

pytestmark = pytest.mark.slow

URI_NAME = official.OFFICIAL.uri_name
PROMPT = rules.PROMPT_TEMPLATE.replace("{article}", "{input}")


def array(text: str = "a", count: int = rules.CALIBRATION_COUNT) -> bytes:
    """MLCommons' file, as its own script writes it."""
    fixed = {"instruction": PROMPT, "output": "o"}
    return json.dumps([{**fixed, "input": f"{text}{i}", "tok_input": [1, i]} for i in range(count)]).encode()


OFFICIAL = array()


@pytest.fixture
def server() -> Iterator[StandIn]:
    with serve() as running:
        yield running


def pin(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    pinned = dataclasses.replace(official.OFFICIAL, sha256=support.sha256(body))
    monkeypatch.setattr(official, "OFFICIAL", pinned)


def from_store(tmp_path: Path, server: StandIn, body: bytes) -> Served:
    server.add_r2(URI_NAME, {official.NAME: body})
    return calibration.serve("mlcommons", settings(tmp_path, server.url), {})


def from_path(tmp_path: Path, server: StandIn, body: bytes) -> Served:
    folder = support.write({official.NAME: body}, tmp_path / "data")
    return calibration.serve("path", settings(tmp_path, server.url, CALIBRATION=str(folder)), {})


# --- which sources


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("auto", ("mlcommons", "huggingface")),
        ("huggingface", ("huggingface",)),
        ("/some/file.json", ("path",)),
    ],
)
def test_chain(setting: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    assert calibration.chain(settings(tmp_path, "http://x", CALIBRATION=setting)) == expected


def test_an_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected mlcommons, huggingface, path"):
        calibration.serve("other", settings(tmp_path, "http://x"), {})


# --- MLCommons' store


def test_announced_by_the_store(tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    as_publisher(monkeypatch, server)
    served = from_store(tmp_path, server, OFFICIAL)
    assert served.eligible and served.rows == 1000
    assert served.details["uri"] == f"{server.url}/metadata/{URI_NAME}.uri"
    # From the cache, and judged again.
    server.fail("/bucket", Fault(500))
    assert from_store(tmp_path, server, OFFICIAL).eligible


def test_a_mirror_serves_what_nobody_announces(tmp_path: Path, server: StandIn) -> None:
    served = from_store(tmp_path, server, OFFICIAL)
    assert not served.eligible and "not the publisher's own server" in served.reason


def test_a_pinned_file_needs_no_announcement(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, OFFICIAL)
    assert from_store(tmp_path, server, OFFICIAL).eligible


def test_an_article_fewer(tmp_path: Path, server: StandIn) -> None:
    with pytest.raises(MissingError, match="expected 1000 rows, found 999"):
        from_store(tmp_path, server, array(count=999))


def test_the_store_is_closed(tmp_path: Path, server: StandIn) -> None:
    server.fail("/metadata", Fault(404))
    with pytest.raises(MissingError, match="404"):
        from_store(tmp_path, server, OFFICIAL)


# --- a path


def test_a_folder_with_the_official_file(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, OFFICIAL)
    served = from_path(tmp_path, server, OFFICIAL)
    assert served.eligible and served.path.endswith(official.NAME)


@pytest.mark.parametrize("body", [array("invented"), array(count=12)])
def test_other_content_serves_and_is_not_eligible(
    body: bytes, tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, OFFICIAL)
    served = from_path(tmp_path, server, body)
    assert not served.eligible
    assert served.reason.startswith(f"{official.NAME}: ") and "no published checksum" in served.reason


def test_no_such_path(tmp_path: Path) -> None:
    used = settings(tmp_path, "http://x", CALIBRATION=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="CALIBRATION: expected auto, mlcommons, huggingface, a file"):
        calibration.serve("path", used, {})


def test_a_folder_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"CALIBRATION: expected {official.NAME} in the folder"):
        calibration.serve("path", settings(tmp_path, "http://x", CALIBRATION=str(tmp_path)), {})


# --- the hub's training part


def training(ids: tuple[str, ...], text: str = "a") -> dict[str, bytes]:
    """Three parquet files with those articles and others, in another order."""
    names = [*sorted(set(ids)), *(f"{number:040x}" for number in range(9))]
    files = {}
    for number, name in enumerate(huggingface.FILES):
        some = names[number::3]
        columns = {"article": [f"{text} {n} é" for n in some], "highlights": ["h"] * len(some), "id": some}
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), sink)
        files[name] = sink.getvalue()
    return files


def from_hub(tmp_path: Path, server: StandIn, files: dict[str, bytes]) -> Served:
    server.repos = [Repo("datasets", huggingface.REPOSITORY, huggingface.REVISION, files)]
    used = settings(tmp_path, server.url)
    return calibration.serve("huggingface", used, environment(tmp_path, server.url))


def test_the_published_ids() -> None:
    ids = official.article_ids()
    assert len(ids) == 1000 and len(set(ids)) == 998
    assert ids[0] == "eceaa658027ad9625f832368198e11bd2fa38977"


def test_the_published_articles_in_their_order(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_publisher(monkeypatch, server)
    ids = official.article_ids()
    served = from_hub(tmp_path, server, training(ids))
    assert served.eligible and served.rows == 1000 and served.revision == huggingface.REVISION
    assert [row.article for row in read_rows(Path(served.path))] == [f"a {name} é" for name in ids]
    # Other rows beside the same parquet files are found.
    path = Path(served.path)
    provided = Provided(**vars(served))
    hub = environment(tmp_path, server.url)
    used = settings(tmp_path, server.url)
    assert calibration.prove_again(provided, used, hub) == (served.sha256, "")
    path.write_text(path.read_text().replace("é", "e", 1))
    sha256, reason = calibration.prove_again(provided, used, hub)
    assert sha256 != served.sha256 and "its rows are not those" in reason


def test_a_mirror_of_the_hub_is_not_believed(tmp_path: Path, server: StandIn) -> None:
    served = from_hub(tmp_path, server, training(official.article_ids()))
    assert not served.eligible and "not the publisher's own server" in served.reason


def test_an_article_is_missing(tmp_path: Path, server: StandIn) -> None:
    ids = official.article_ids()
    with pytest.raises(MissingError, match=f"expected 1000 calibration articles, found {ids[5]} missing"):
        from_hub(tmp_path, server, training(tuple(name for name in ids if name != ids[5])))
