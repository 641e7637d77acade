"""The seal within a stage: a kill is told from an edit, and a folder holds what it judges."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mlperf_llama import config
from mlperf_llama.bench import create
from mlperf_llama.errors import UsageError
from mlperf_llama.records import contents, run_folder, seal
from mlperf_llama.records.files import read_object
from mlperf_llama.records.run_folder import Record, RunFolder
from mlperf_llama.records.scales import Scales
from mlperf_llama.records.schema import (
    COMPLETE,
    Accuracy,
    Performance,
    Provenance,
    Provided,
    Results,
    Scenario,
    Seal,
    System,
)

RUN_1 = "Offline/performance/run_1"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder whose stages up to the measuring one have ended."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write(config.load({"ENGINE": "fake"}, {}))
    with seal.stage(run, seal.CREATED):
        for record in (System(), Provenance(), Results()):
            run.write(record)
    with seal.stage(run, "start"):
        run.update(Provenance, samples=8)
    return run


def killed(work: Callable[[], object]) -> None:
    """`work` in a process that ends without a word, as SIGKILL ends one."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(9)
    os.waitpid(pid, 0)


def write_logs(run: RunFolder, mode: str, text: str) -> None:
    folder = run.log_dir("Offline", mode)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlperf_log_detail.txt").write_text(text)
    (run.scenario("Offline") / "user.conf").write_text("*.Offline.target_qps = 7\n")


def measure(run: RunFolder, until: str) -> None:
    """Two LoadGen runs, and the end of the process at `until`."""

    def reached(moment: str) -> None:
        if until == moment:
            os._exit(9)

    with seal.stage(run, seal.MEASURED):
        reached("the stage has begun")
        with seal.part(run, "Offline performance", RUN_1, "Offline/user.conf"):
            reached("the part has begun")
            write_logs(run, "performance", "half")
            reached("half of the logs")
            write_logs(run, "performance", "whole")
        reached("the part is sealed")
        performance = Scenario(performance=Performance(1.0, 128.0, 600.0, 8, "VALID"))
        run.update(Results, scenarios={"Offline": performance})
        reached("the part is recorded")
        with seal.part(run, "Offline accuracy", "Offline/accuracy", "Offline/user.conf"):
            write_logs(run, "accuracy", "half")
            reached("half of the next part")
        scenario = Scenario(performance=performance.performance, accuracy=Accuracy())
        run.update(Results, scenarios={"Offline": scenario})
        reached("all is recorded")


MOMENTS = (
    "the stage has begun",
    "the part has begun",
    "half of the logs",
    "the part is sealed",
    "the part is recorded",
    "half of the next part",
    "all is recorded",
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_in_the_measuring_stage_is_no_edit(folder: RunFolder, moment: str) -> None:
    killed(lambda: measure(folder, moment))
    recorded = folder.read(Results).scenarios.get("Offline", Scenario())
    log = folder.file(f"{RUN_1}/mlperf_log_detail.txt")
    finished = log.read_text() if recorded.performance else None
    folder = create.reopen_run(folder.path, {})
    assert seal.faults(folder) == []
    if finished is None:
        assert not log.exists()
    else:
        assert log.read_text() == finished == "whole"
    half = [name for name in seal.unfinished(folder) if folder.file(name).read_text() == "half"]
    assert len(half) == (moment in ("half of the logs", "half of the next part"))
    measure(folder, "its end")
    assert seal.faults(folder) == []
    assert folder.read(Results).scenarios["Offline"].accuracy is not None


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_edit_after_a_kill_is_an_edit(folder: RunFolder, moment: str) -> None:
    killed(lambda: measure(folder, moment))
    path = folder.file(Results.FILE)
    path.write_text(path.read_text().replace('"running"', '"complete"'))
    folder.file("system.json").write_text("{}")
    with seal.stage(folder, "resume"):
        pass
    broken = folder.read(Seal).broken
    assert [line for line in broken if "results.json changed" in line]
    assert [line for line in broken if "system.json changed" in line]


def test_an_edit_of_a_finished_run_after_a_kill_is_an_edit(folder: RunFolder) -> None:
    killed(lambda: measure(folder, "half of the next part"))
    folder.file(f"{RUN_1}/mlperf_log_detail.txt").write_text("better")
    run = create.reopen_run(folder.path, {})
    assert f"before resume: {RUN_1}/mlperf_log_detail.txt changed" in run.read(Seal).broken


def test_an_edit_of_a_finished_run_while_another_runs_is_an_edit(folder: RunFolder) -> None:
    with seal.stage(folder, seal.MEASURED):
        with seal.part(folder, "Offline performance", RUN_1):
            write_logs(folder, "performance", "whole")
        folder.file(f"{RUN_1}/mlperf_log_detail.txt").write_text("better")
    assert seal.faults(folder) == [f"during run: {RUN_1}/mlperf_log_detail.txt changed"]


@pytest.mark.parametrize("when", ["announced", "moved in part"])
def test_a_kill_while_the_unfinished_part_is_set_aside(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    killed(lambda: measure(folder, "half of the next part"))
    rename, count = Path.rename, [0]

    def rename_once(path: Path, target: Path) -> Path:
        count[0] += 1
        if count[0] > (when != "announced"):
            os._exit(9)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_once)
        killed(lambda: create.reopen_run(folder.path, {}))
    run = create.reopen_run(folder.path, {})
    assert seal.faults(run) == []
    names = [name for name in seal.unfinished(run) if name.endswith("accuracy/mlperf_log_detail.txt")]
    assert [run.file(name).read_text() for name in names] == ["half"]


def test_an_interrupted_part_is_set_aside_and_each_in_a_folder_of_its_own(folder: RunFolder) -> None:
    for text in ("first", "second"):
        stage, part = seal.stage(folder, seal.MEASURED), seal.part(folder, "Offline performance", RUN_1)
        with pytest.raises(KeyboardInterrupt), stage, part:
            write_logs(folder, "performance", text)
            raise KeyboardInterrupt
        create.reopen_run(folder.path, {})
    kept = [folder.file(f"unfinished/{n}/{RUN_1}/mlperf_log_detail.txt").read_text() for n in (1, 2)]
    assert kept == ["first", "second"]
    assert seal.faults(folder) == [] and not folder.file(RUN_1).joinpath("mlperf_log_detail.txt").exists()


def test_a_resume_says_what_was_kept(folder: RunFolder) -> None:
    killed(lambda: measure(folder, "half of the next part"))
    assert create.kept(create.reopen_run(folder.path, {})) == (
        "resume: finished and kept: Offline performance; what was unfinished lies in unfinished/1"
    )
    (resumed,) = folder.read(Provenance).resumed or ()
    assert resumed.finished == ("Offline performance",)


@pytest.mark.parametrize("sealed", [True, False])
def test_scales_that_no_record_names_are_made_again(folder: RunFolder, sealed: bool) -> None:
    def die_before_the_record() -> None:
        with seal.stage(folder, seal.MEASURED):
            with seal.part(folder, "scales", Scales.FILE):
                folder.file(Scales.FILE).write_text("{}")
                if not sealed:
                    os._exit(9)
            os._exit(9)

    killed(die_before_the_record)
    run = create.reopen_run(folder.path, {})
    assert seal.faults(run) == [] and not run.file(Scales.FILE).exists()
    assert seal.unfinished(run) == [f"unfinished/1/{Scales.FILE}"]


def test_a_disk_that_fills_up_is_no_edit(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the logs nor the seal that ends the stage can be written then."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        stage = seal.stage(folder, seal.MEASURED)
        part = seal.part(folder, "Offline performance", RUN_1, "Offline/user.conf")
        with pytest.raises(OSError, match="No space"), stage, part:
            write_logs(folder, "performance", "half")
            patch.setattr(run_folder, "write_text", refuse)
            refuse()
    run = create.reopen_run(folder.path, {})
    assert seal.faults(run) == []
    assert f"unfinished/1/{RUN_1}/mlperf_log_detail.txt" in seal.unfinished(run)


def test_a_pipe_in_a_running_part_is_not_waited_for(folder: RunFolder) -> None:
    with seal.stage(folder, seal.MEASURED), seal.part(folder, "Offline performance", RUN_1):
        write_logs(folder, "performance", "whole")
        os.mkfifo(folder.file(RUN_1) / "pipe")
    assert seal.faults(folder) == [f"{RUN_1}/pipe is a named pipe"]


def test_what_a_killed_writer_left_is_removed(folder: RunFolder) -> None:
    def die_while_writing() -> None:
        with seal.stage(folder, "score"):
            folder.file(".results.json.abcd_123").write_text("{")
            os._exit(9)

    killed(die_while_writing)
    create.reopen_run(folder.path, {})
    assert not folder.file(".results.json.abcd_123").exists()


def test_a_run_that_was_killed_at_its_very_end_is_resumed(folder: RunFolder) -> None:
    def die_when_complete() -> None:
        with seal.stage(folder, "score"):
            folder.update(Results, status=COMPLETE)
            os._exit(9)

    killed(die_when_complete)
    assert create.reopen_run(folder.path, {}).read(Results).status == "running"
    assert seal.faults(folder) == []
    with seal.stage(folder, "score"):
        folder.update(Results, status=COMPLETE)
    with pytest.raises(UsageError, match="found a complete one; `make report"):
        create.reopen_run(folder.path, {})


@pytest.mark.parametrize("record", [Seal, System, Provenance, Results])
def test_a_run_that_was_killed_as_it_was_made_is_resumed(
    tmp_path: Path, record: type[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the writing of each record."""
    write = RunFolder.write

    def until(run: RunFolder, written: Record) -> None:
        if type(written) is record:
            os._exit(9)
        write(run, written)

    settings = config.load({"ENGINE": "fake", "RESULTS_DIR": str(tmp_path)}, {})
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", until)
        killed(lambda: create.create_run(settings, {}))
    again = create.reopen_run((tmp_path / "latest").resolve(), {})
    assert again.read(Results).status == "running" and again.read(Provenance).round == "v6.1"
    assert seal.faults(again) == []


@pytest.mark.parametrize("resumed", [True, False])
def test_records_written_by_hand_into_a_new_folder_are_nobodys(tmp_path: Path, resumed: bool) -> None:
    """`create-run`, then a provenance.json of one's own and no seal."""
    settings = config.load({"ENGINE": "fake", "RESULTS_DIR": str(tmp_path)}, {})
    run = create.create_run(settings, {})
    run.update(Provenance, model=Provided("huggingface", "/model", "0" * 64, True))
    run.file(Seal.FILE).unlink()
    if resumed:
        assert create.reopen_run(run.path, {}).read(Provenance).model is None
    else:
        with seal.stage(run, seal.MEASURED):
            write_logs(run, "performance", "x")
        assert seal.faults(run) == [seal.NO_BEGIN]


# --- links


def link_folder(run: RunFolder, away: Path) -> None:
    shutil.move(run.scenario("Offline"), away)
    run.scenario("Offline").symlink_to(away)


def link_file(run: RunFolder, away: Path) -> None:
    shutil.move(run.file("config.json"), away)
    run.file("config.json").symlink_to(away)


def hard_link(run: RunFolder, away: Path) -> None:
    os.link(run.file(f"{RUN_1}/mlperf_log_detail.txt"), away)


def pipe(run: RunFolder, away: Path) -> None:
    os.mkfifo(run.scenario("Offline") / "pipe")


def pipe_for_a_record(run: RunFolder, away: Path) -> None:
    run.file("results.json").unlink()
    os.mkfifo(run.file("results.json"))


def listen(run: RunFolder, away: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run.file("s")))


def dangling(run: RunFolder, away: Path) -> None:
    run.file("report.md").symlink_to(away)


FOREIGN = {
    link_folder: "Offline is a symbolic link to ",
    link_file: "config.json is a symbolic link to ",
    hard_link: f"{RUN_1}/mlperf_log_detail.txt is a hard link that another folder has too",
    pipe: "Offline/pipe is a named pipe",
    pipe_for_a_record: "results.json is a named pipe",
    listen: "s is a socket",
    dangling: "report.md is a symbolic link to ",
}


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_a_folder_holds_what_it_judges(
    folder: RunFolder, tmp_path: Path, make: Callable[[RunFolder, Path], None]
) -> None:
    with seal.stage(folder, seal.MEASURED), seal.part(folder, "Offline performance", RUN_1):
        write_logs(folder, "performance", "whole")
    before = folder.file(Seal.FILE).read_bytes()
    make(folder, tmp_path / "away")
    assert any(FOREIGN[make] in line for line in seal.faults(folder))
    refused = pytest.raises(UsageError, match=r"expected files of its own, found: .*cp -rL")
    with refused, seal.stage(folder, "score"):
        pass
    assert folder.file(Seal.FILE).read_bytes() == before


def test_a_link_is_as_good_as_new_once_its_content_is_there(folder: RunFolder, tmp_path: Path) -> None:
    with seal.stage(folder, seal.MEASURED), seal.part(folder, "Offline performance", RUN_1):
        write_logs(folder, "performance", "whole")
    link_folder(folder, tmp_path / "away")
    shutil.copytree(folder.path, tmp_path / "copy")  # follows links, as cp -rL does
    assert seal.faults(RunFolder(tmp_path / "copy")) == []


def test_two_names_within_the_folder_are_no_foreign_link(folder: RunFolder) -> None:
    folder.file("a.txt").write_text("a")
    os.link(folder.file("a.txt"), folder.file("b.txt"))
    assert contents.foreign(folder.path) == []


@pytest.mark.slow
@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_the_verdict_names_what_is_not_the_folders_own(
    run: RunFolder, tmp_path: Path, make: Callable[[RunFolder, Path], None]
) -> None:
    from mlperf_llama import verdict

    make(run, tmp_path / "away")
    (check,) = [c for c in verdict.examine(run) if c.name == "seal"]
    assert not check.passed and FOREIGN[make] in check.detail


def test_a_pipe_in_a_records_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(UsageError, match="expected a file, found a folder, a pipe or a device"):
        read_object(tmp_path / "results.json")
