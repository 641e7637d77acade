"""Trees with one random fault each: no check of ours crashes, and nothing passes that MLCommons' refuses."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import small_trees as trees

from mlperf_llama import rules
from mlperf_llama.errors import UsageError
from mlperf_llama.loadgen import logs
from mlperf_llama.submission import official, tree

pytestmark = pytest.mark.slow

KINDS = (
    ("open", rules.EDGE, "v6.1"),
    ("closed", rules.DATACENTER, "v6.1"),
    ("closed", rules.EDGE, "v5.1"),
    ("open", rules.DATACENTER, "v6.0"),
)
FAULTS = 25
ABSENT = "absent"
VALUES = (ABSENT, None, 0, -1, "", "x y", [], 1e30, False)
Fault = Callable[[random.Random, Path], object]


def _files(root: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in root.rglob(pattern) if path.is_file())


def _take_out(chance: random.Random, root: Path) -> None:
    chance.choice(_files(root)).unlink()


def _overwrite(chance: random.Random, root: Path) -> None:
    path = chance.choice(_files(root))
    path.write_bytes(chance.choice((b"", b"junk", path.read_bytes() + b"\xff\n")))


def _change_key(chance: random.Random, root: Path) -> None:
    path = chance.choice([p for p in _files(root, "*.json") if p.name != logs.ACCURACY])
    data = json.loads(path.read_text())
    key, value = chance.choice(list(data)), chance.choice(VALUES)
    path.write_text(json.dumps({k: v for k, v in {**data, key: value}.items() if v != ABSENT}))


def _change_log(chance: random.Random, root: Path) -> None:
    path = chance.choice(_files(root, logs.DETAIL))
    entries = [json.loads(line.removeprefix(logs.MARK)) for line in path.read_text().splitlines()]
    entry, value = chance.choice(entries), chance.choice(VALUES)
    entry["value"] = value
    kept = [e for e in entries if e is not entry or value != ABSENT]
    path.write_text("".join(f"{logs.MARK}{json.dumps(e)}\n" for e in kept))


def _drop_line(chance: random.Random, root: Path) -> None:
    path = chance.choice([p for p in _files(root, "*.txt") if p.name != logs.DETAIL])
    lines = path.read_text().splitlines()
    lines.pop(chance.randrange(len(lines)))
    path.write_text("\n".join(lines) + "\n")


def _change_folder(chance: random.Random, root: Path) -> None:
    folder = chance.choice(sorted(path for path in root.rglob("*") if path.is_dir()))
    what = chance.choice(("take out", "add one", "capitals"))
    if what == "take out":
        shutil.rmtree(folder)
    elif what == "add one":
        (folder / "new").mkdir()
    elif not folder.with_name(folder.name.upper()).exists():
        folder.rename(folder.with_name(folder.name.upper()))


# A log has most of what can be wrong.
WAYS: tuple[Fault, ...] = (
    _take_out, _overwrite, _change_key, _change_log, _change_log, _change_log, _drop_line, _change_folder,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("division", "category", "round_name"), KINDS)
def test_nothing_passes_that_mlcommons_refuses(
    division: str, category: str, round_name: str, seed: int, tmp_path: Path
) -> None:
    named = os.environ.get("MLPERF_INFERENCE_DIR", "")
    if not named:
        pytest.skip("MLPERF_INFERENCE_DIR names no checkout of mlcommons/inference")
    trees.make(tmp_path / "sound", division, category, round_name)
    chance = random.Random(f"{division} {category} {round_name} {seed}")
    for number in range(FAULTS):
        root = tmp_path / str(number)
        shutil.copytree(tmp_path / "sound", root)
        way = chance.choice(WAYS)
        way(chance, root)
        try:
            passed = all(c.passed is True for c in tree.examine(root))
        except UsageError:
            passed = False
        if passed:
            outcome = official.run(Path(named), root, round_name, None, os.environ)
            assert outcome.accepted, f"seed {seed}, {number}, {way.__name__}: {outcome.complaints}"
        shutil.rmtree(root)
