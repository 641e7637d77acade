"""Makes the folder of a run, or opens one again: its settings, and the system it runs on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .. import rules
from ..config import Config
from ..engine.fake_script import check_script
from ..engine.preset import GENERIC, load_preset
from ..engine.replicas.plan import chosen_gpus
from ..errors import MissingError, UsageError
from ..machine import gpus, needs, system
from ..records import seal
from ..records.run_folder import RunFolder
from ..records.scales import Scales
from ..records.schema import COMPLETE, RUNNING, Provenance, Provided, Results, Resumed, Scenario, Seal, System
from ..settings import AUTO, PREFIX

log = logging.getLogger(__name__)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_engine(config: Config) -> None:
    """UsageError for settings that the engine would refuse only once data and model are there."""
    if config.engine == "fake":
        check_script(config.fake)
    elif config.preset not in (AUTO, GENERIC):
        load_preset(config.preset)


def create_run(config: Config, env: Mapping[str, str], label: str = "") -> RunFolder:
    """Make the run folder with config.json, system.json, the first provenance and the first results;
    `label`: in its name before the scenarios."""
    check_engine(config)
    needs.check(config)
    needs.check_path("RESULTS_DIR", str(Path(config.results_dir).absolute()))
    here = _used(config, system.describe(env))
    check_gpus(config, env, here)
    scenarios = "-".join(config.scenario)
    run = RunFolder.create(Path(config.results_dir), f"{label}-{scenarios}" if label else scenarios)
    run.write(config)
    with seal.stage(run, seal.CREATED):
        _first_records(run, config, here)
    return run


def _used(config: Config, here: System) -> System:
    """This machine with the GPUs that the run uses of those that CUDA would: none where HOSTS names others,
    which say themselves what they have (members.placed)."""
    if config.hosts:
        return replace(here, gpus=(), gpu_choice=None, gpu_failure=None)
    used = chosen_gpus(config, here.gpus)
    if config.endpoints:
        return replace(here, gpus=(), gpu_choice="none: the servers that ENGINE names have theirs")
    if used == here.gpus:
        return here
    choice = f"{len(used)} of {len(here.gpus)} by GPUS and TENSOR_PARALLEL"
    return replace(here, gpus=used, gpu_choice=f"{here.gpu_choice}; {choice}" if here.gpu_choice else choice)


def _first_records(run: RunFolder, config: Config, here: System) -> None:
    """Those of a new folder."""
    provenance = Provenance(config.round, rules.ROUNDS[config.round].loadgen_version)
    results = Results(RUNNING, started=_now(), round=config.round, category=config.category)
    for record in (here, provenance, results):
        run.write(record)


def check_gpus(config: Config, env: Mapping[str, str], here: System) -> None:
    """A GPU that is there and fails ends the run, unless the settings need none: the CPU in its place would
    be another benchmark than the one that was asked for."""
    if here.gpu_failure:
        words = f"{here.gpu_failure}: {gpus.REPAIR}"
        if not here.gpus and config.engine == "vllm" and env.get(f"{PREFIX}TARGET", "").lower() != "cpu":
            raise MissingError(f"expected a GPU that answers, found {words}; TARGET=cpu runs on the CPU")
        log.warning("a GPU fails: %s", words)
    elif here.gpu_choice and not here.gpus and not config.endpoints:
        log.warning("no GPU is visible to CUDA: %s", here.gpu_choice)


def reopen_run(path: Path, env: Mapping[str, str]) -> RunFolder:
    """Open a run that ended early, here or on another machine, to finish what is missing.

    The hashes of the data and the model that its finished runs used are kept in provenance.json: others
    are refused later; another machine is named in the verdict. What a LoadGen run wrote that did not end is
    set aside.
    """
    run = RunFolder.open(path)
    config, seal_before = run.config(), run.read_or_new(Seal)
    begun = bool(seal_before.stages) or seal.has_logs(run)
    results = run.read_or_new(Results) if begun else Results()
    if results.status == COMPLETE and seal_before.open is None:
        raise UsageError(
            f"{path}: expected a run that ended early, found a complete one; "
            f"`make report RUN_DIR={path}` judges it again"
        )
    needs.check(config)
    needs.check_path("RUN_DIR", str(run.path))
    here = _used(config, system.describe(env))
    check_gpus(config, env, here)
    if not begun:
        # Killed while it was made: whatever records lie there, nothing has been recorded yet.
        with seal.stage(run, seal.CREATED):
            _first_records(run, config, here)
    with seal.stage(run, "resume"):
        finished, unrecorded = _runs(run, config)
        seal.set_aside(run, unrecorded)
        _record_resume(run, here, finished)
    return run


def _runs(run: RunFolder, config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The LoadGen runs that are recorded, by name, and what lies there of runs that are not: log folders, and
    scales that nothing was run with."""
    recorded, finished, unrecorded = run.read(Results).scenarios, [], []
    for scenario in config.scenario:
        for mode in rules.MODES:
            folder = run.log_dir(scenario, mode)
            if getattr(recorded.get(scenario, Scenario()), mode) is not None:
                finished.append(f"{scenario} {mode}")
            elif folder.is_dir():
                unrecorded.append(folder.relative_to(run.path).as_posix())
    if run.read(Provenance).scales is None and run.file(Scales.FILE).is_file():
        unrecorded.append(Scales.FILE)
    return tuple(finished), tuple(unrecorded)


def _record_resume(run: RunFolder, here: System, finished: tuple[str, ...]) -> None:
    provenance = run.read(Provenance)
    resumed = Resumed(_now(), other_system(run, here), finished)
    inputs = {"dataset": provenance.dataset, "model": provenance.model}
    run.update(
        Provenance,
        resumed=(*(provenance.resumed or ()), resumed),
        stood_on=provenance.stood_on or {kind: (p or Provided()).sha256 for kind, p in inputs.items()},
    )
    run.update(Results, status=RUNNING, finished=None)


def kept(run: RunFolder) -> str:
    """One line on what a resumed run still has, and where lies what was begun and did not end."""
    resumed = run.read(Provenance).resumed or ()
    finished = resumed[-1].finished if resumed else None
    folders = sorted({"/".join(name.split("/")[:2]) for name in seal.unfinished(run)})
    aside = f"; what was unfinished lies in {', '.join(folders)}" if folders else ""
    return f"resume: finished and kept: {', '.join(finished or ()) or 'no LoadGen run'}{aside}"


def other_system(run: RunFolder, here: System) -> tuple[str, ...]:
    """Which parts of this machine differ from the one that the run began on."""
    before = run.read(System)
    parts = {
        "cpu": before.cpu != here.cpu,
        # Those of other hosts are asked for later.
        "gpus": before.gpus != here.gpus and not run.config().hosts,
        "packages": before.packages != here.packages,
    }
    return tuple(part for part, differs in parts.items() if differs)
