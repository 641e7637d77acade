"""A few rounds of chaos.py, and that its judgement finds what it is to find."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import chaos
import chaos_checks
import chaos_rounds
import chaos_world
import pytest
from chaos_world import World
from forked_runs import Run

from mlperf_llama.records.run_folder import RunFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with chaos_world.made(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.mark.parametrize("name", ["kill", "full disk", "two at once"])
def test_a_round_holds(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_rounds, "AGAIN", 0)
    monkeypatch.setattr(chaos_rounds, "SHIPPED", 0)
    if reason := chaos.missing(world).get(name):
        pytest.skip(reason)
    number = list(chaos.ROUNDS).index(name) + 1
    assert chaos.ROUNDS[name](world, random.Random(number), number)


def edited_answers(run: RunFolder) -> None:
    log = run.file("Server/accuracy/mlperf_log_accuracy.json")
    log.write_text(re.sub(r'"data" : "....', '"data" : "0100', log.read_text()))


def lost_part(run: RunFolder) -> None:
    results = json.loads(run.file("results.json").read_text())
    del results["scenarios"]["Server"]["accuracy"]
    run.file("results.json").write_text(json.dumps(results))


def other_status(run: RunFolder) -> None:
    run.file("results.json").write_text(run.file("results.json").read_text().replace("complete", "running"))


HARMS = (edited_answers, lost_part, other_status)


def test_a_run_that_lost_something_is_found(world: World, tmp_path: Path) -> None:
    """As killed runs are looked at: a folder whose content is not what its run left is never called good."""
    calm = world.folder / "work/round-0/results"
    (original,) = calm.glob("2*")
    files = {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    run = Run(path=original, finished={})
    run.look(calm)
    chaos_checks.judged(world, run)
    for harm in HARMS:
        harm(RunFolder(original))
        with pytest.raises(AssertionError):
            chaos_checks.judged(world, run)
        for path, content in files.items():
            path.write_bytes(content)
