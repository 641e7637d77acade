"""vLLM's import beside the run's preparation: its errors are told as without it, and the fake engine imports
nothing."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlperf_llama import config
from mlperf_llama.bench import early_import
from mlperf_llama.config import Config
from mlperf_llama.engine import importing
from mlperf_llama.engine import vllm as vllm_engine
from mlperf_llama.engine.hopper import cubins
from mlperf_llama.engine.importing import BackgroundImport
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import MissingError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance, Provided, System
from mlperf_llama.sources.dataset import prepare


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "VLLM", BackgroundImport())
    monkeypatch.setattr(os, "environ", dict(os.environ))


def start() -> None:
    asyncio.run(VllmEngine({"model": "m"}, Path("/nowhere"), {}).start(lambda message: None))


def test_the_end_of_an_import_is_waited_for() -> None:
    order: list[str] = []
    go = threading.Event()

    def load() -> None:
        go.wait(10)
        order.append("loaded")

    background = BackgroundImport()
    background.begin(load)
    background.begin(lambda: order.append("a second"))
    assert order == []
    go.set()
    background.finish()
    background.finish()
    assert order == ["loaded"]


def test_an_error_is_raised_once_and_where_it_is_waited_for() -> None:
    def load() -> None:
        raise ImportError("no such module")

    background = BackgroundImport()
    background.begin(load)
    background.wait(10)
    with pytest.raises(ImportError, match="no such module"):
        background.finish()
    background.finish()


def test_a_run_that_ends_early_waits_no_longer_than_it_says() -> None:
    go = threading.Event()
    background = BackgroundImport()
    done: list[bool] = []
    background.begin(lambda: done.append(go.wait(10)))
    background.wait(0.01)
    assert done == []
    go.set()
    background.finish()
    assert done == [True]


def test_an_import_error_is_told_as_without_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingError) as alone:
        start()
    vllm_engine.begin_import()
    with pytest.raises(MissingError) as beside:
        start()
    assert str(beside.value) == str(alone.value)
    assert "vLLM cannot be imported here" in str(alone.value)


def test_a_name_that_is_gone_is_told_by_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="0.26.0"))
    monkeypatch.setitem(vllm_engine.compat.NAMES, "current_platform", ("nowhere", ""))
    vllm_engine.begin_import()
    with pytest.raises(MissingError, match=r"vLLM 0\.26\.0: expected nowhere"):
        start()


def test_the_run_s_own_tokenising_stays_parallel_until_the_engine_starts(tmp_path: Path) -> None:
    os.environ.pop("TOKENIZERS_PARALLELISM", None)
    os.environ["VLLM_CACHE_ROOT"] = "/mine"
    importing.prepare_import(tmp_path, {"OMP_NUM_THREADS": "3"})
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "3" and os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ[cubins.VARIABLE] == str(tmp_path / "kernels")
    importing.prepare_environment(tmp_path, {"OMP_NUM_THREADS": "4"})
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert os.environ["OMP_NUM_THREADS"] == "3" and os.environ["VLLM_CACHE_ROOT"] == "/mine"


class Begun:
    """What was asked of tokenizer and import, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.calls: list[object] = []
        self.run = RunFolder(tmp_path)
        self.run.write(System())
        self.run.write(Provenance(model=Provided(source="path", path="/model", sha256="a" * 64)))
        self.config = config.load({}, {})
        monkeypatch.setattr(prepare, "load_tokenizer", self.calls.append)
        monkeypatch.setattr(vllm_engine, "begin_import", lambda: self.calls.append("import"))
        monkeypatch.setattr(importing, "prepare_import", lambda _, variables: self.calls.append(variables))

    def begin(self, settings: Config | None = None) -> list[object]:
        early_import.begin(self.run, settings or self.config)
        return self.calls


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Begun:
    return Begun(monkeypatch, tmp_path)


def test_variables_come_first_and_the_tokenizer_before_the_import(begun: Begun) -> None:
    variables = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    given, *others = begun.begin()
    assert isinstance(given, dict) and given.items() >= variables.items()
    assert others == [Path("/model"), "import"]


def test_the_fake_engine_imports_nothing(begun: Begun) -> None:
    assert begun.begin(replace(begun.config, engine="fake")) == []


def test_what_is_wrong_is_left_to_those_who_need_it(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert begun.begin(replace(begun.config, preset="/no/such.toml")) == []

    def fail(_: Path) -> None:
        raise MissingError("no tokenizer")

    monkeypatch.setattr(prepare, "load_tokenizer", fail)
    assert "import" not in begun.begin()
