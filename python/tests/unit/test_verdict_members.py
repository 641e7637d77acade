"""The verdict on engines that share the work: unlike each other, unlike the head, or not recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import run_folders as folders

from mlperf_llama.engine import hopper
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.source import source_sha256
from mlperf_llama.verdict import evidence, members, ran

Change = Callable[[dict[str, Any]], object]
WEIGHTS = "0" * 64


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A good run of two members on two hosts."""
    run = folders.good_run(tmp_path_factory.mktemp("members") / "run", scenarios=())
    each = [
        {"index": index, "host": f"node{index}", "gpus": folders.SYSTEM["gpus"], "version": "0.26.0",
         "settings": folders.SETTINGS, "code_sha256": source_sha256(), "model_sha256": WEIGHTS}
        for index in range(2)
    ]  # fmt: skip
    folders.edit_json(run.file("provenance.json"), lambda d: d.update(members=each))

    def of_each(entries: list[dict[str, Any]]) -> None:
        entries[:] = [{**entries[0], "member": index} for index in range(2)]

    folders.edit_json(run.file("environment.json"), lambda d: of_each(d["processes"]))
    folders.edit_json(run.file("engine.json"), lambda d: of_each(d["loads"]))
    folders.reseal(run)
    return run


def detail(run: RunFolder) -> str:
    """What the check says; empty where it passed."""
    (check,) = members.checks(evidence.read(run))
    return "" if check.passed else check.detail


def _members(**values: object) -> tuple[str, Change]:
    """The same of all members: alike, and not what the head has."""
    return "provenance.json", lambda d: [member.update(values) for member in d["members"]]


BROKEN: dict[str, tuple[tuple[str, Change], str]] = {
    "unlike weights": (
        ("provenance.json", lambda d: d["members"][1].update(model_sha256="1" * 64)),
        "2 members with unlike weights; member 1 loaded weights of 111",
    ),
    "unlike settings": (
        ("provenance.json", lambda d: d["members"][1].update(settings={"dtype": "float16"})),
        "2 members with unlike settings",
    ),
    "all of another release": (_members(code_sha256="2" * 64), "member 0 ran another release than the head"),
    "all with other weights": (_members(model_sha256="3" * 64), "member 0 loaded weights of 333"),
    "all without a hash of theirs": (_members(model_sha256=None), "member 0 loaded weights of None, 000"),
    "kernels without a self-check": (
        _members(settings={"worker_extension_cls": hopper.EXTENSION}),
        "member 0 has no self-check",
    ),
    "a process that is not recorded": (
        ("environment.json", lambda d: d["processes"].pop()),
        "member 1: its process is not recorded",
    ),
    "an engine that is not recorded": (
        ("engine.json", lambda d: d["loads"].pop()),
        "member 1: its engine is not recorded",
    ),
}


def test_members_that_are_what_the_head_is(good: RunFolder) -> None:
    assert detail(good) == ""


@pytest.mark.parametrize("name", BROKEN)
def test_members_that_are_not(name: str, good: RunFolder) -> None:
    (file, change), said = BROKEN[name]
    before = good.file(file).read_text()
    folders.edit_json(good.file(file), change)
    try:
        assert said in detail(good)
    finally:
        good.file(file).write_text(before)


def test_each_member_s_engine_is_judged_as_the_first(good: RunFolder) -> None:
    """A host whose config.json makes another model of the same weights."""
    before = good.file("engine.json").read_text()

    def window(data: dict[str, Any]) -> None:
        data["loads"][1]["resolved"]["model_config"]["hf_config"].update(sliding_window=64)

    folders.edit_json(good.file("engine.json"), window)
    try:
        failed = {c.name: c.detail for c in ran.checks(evidence.read(good)) if not c.passed}
    finally:
        good.file("engine.json").write_text(before)
    assert "sliding_window=64" in failed["engine_resolved"]
