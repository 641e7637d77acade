"""Records on disk: what this version does not know stays, what it knows is replaced."""

from __future__ import annotations

import json
from pathlib import Path

from mlperf_llama.records import seal
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import (
    COMPLETE,
    Attempt,
    Performance,
    Provenance,
    Provided,
    Results,
    Scenario,
    Seal,
)


def test_no_writer_drops_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    performance = Performance(1.0, 128.0, 600.0, 13368, "VALID")
    run.write(Results(scenarios={"Offline": Scenario(performance=performance)}))
    path = run.file(Results.FILE)
    data = json.loads(path.read_text())
    data["energy"] = {"joules": 1}
    data["scenarios"]["Offline"]["power"] = 700
    data["scenarios"]["Offline"]["performance"]["energy_j"] = 2.5
    path.write_text(json.dumps(data))
    run.update(Results, status=COMPLETE)
    after = json.loads(path.read_text())
    assert after == {**data, "status": COMPLETE}


def test_unknown_keys_of_a_list_stay_with_their_entry(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    first = Attempt("mlcommons", "failed", "no token", 0.1)
    run.write(Provenance(dataset=Provided(attempts=(first,))))
    path = run.file(Provenance.FILE)
    data = json.loads(path.read_text())
    data["dataset"]["attempts"][0]["host"] = "here"
    path.write_text(json.dumps(data))
    second = Attempt("huggingface", "served", "", 3.0)
    run.update(Provenance, dataset=Provided(source="huggingface", attempts=(first, second)))
    attempts = json.loads(path.read_text())["dataset"]["attempts"]
    assert [a.get("host") for a in attempts] == ["here", None]


def test_every_break_of_the_seal_is_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for content in ("one", "two", "three"):
        with seal.stage(run, content):
            pass
        run.file("user.conf").write_text(content)
    with seal.stage(run, "last"):
        pass
    broken = run.read(Seal).broken
    assert len(broken) == 3 and all("user.conf" in line for line in broken)
