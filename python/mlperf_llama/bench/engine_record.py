"""engine.json: what the engine was given each time it was loaded, and what it made of it.

In results.json: how soon it answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from ..engine import EngineInfo, hopper
from ..engine.preset import Preset
from ..machine.process import startup
from ..records.run_folder import RunFolder
from ..records.schema import EngineLoad, EngineLoads, LoadedEngine, Results, UsedExtension, UsedPreset


def loaded(
    run: RunFolder,
    info: EngineInfo,
    settings: dict[str, object],
    preset: Preset,
    first_query_s: float | None,
) -> None:
    """The engine that answers from now on, for results.json. `settings`: those it really uses;
    `first_query_s`: of an engine before it in this process."""
    engine = LoadedEngine(
        name=info.name,
        version=info.version,
        preset=preset.name if info.name == "vllm" else None,
        settings=settings,
        details=info.details,
        load_s=info.load_s,
        self_check=info.self_check,
        import_s=info.import_s,
        first_query_s=first_query_s,
    )
    run.update(Results, engine=engine)


def add_loads(run: RunFolder, infos: Mapping[int | None, EngineInfo], preset: Preset) -> None:
    """One more load of the engine, or of each member's by its index, after those of before."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    loads = [_load(time, member, info, preset) for member, info in infos.items()]
    run.write(EngineLoads((*run.read_or_new(EngineLoads).loads, *loads)))


def _load(time: str, member: int | None, info: EngineInfo, preset: Preset) -> EngineLoad:
    real = bool(info.arguments)
    return EngineLoad(
        time=time,
        name=info.name,
        version=info.version,
        arguments=info.arguments,
        preset=used_preset(preset) if real else None,
        extension=_extension(info) if real else None,
        resolved=info.resolved,
        member=member,
    )


def add_first_query(run: RunFolder) -> float:
    """The engine has answered for the first time: seconds since this process began, for results.json."""
    seconds = round(startup.seconds_since_start(), 2)
    loaded = run.read(Results).engine or LoadedEngine()
    run.update(Results, engine=replace(loaded, first_query_s=seconds))
    return seconds


def used_preset(preset: Preset) -> UsedPreset:
    sha256 = hashlib.sha256(preset.text.encode()).hexdigest()
    return UsedPreset(preset.name, preset.text, sha256, dict(preset.environment))


def _extension(info: EngineInfo) -> UsedExtension | None:
    name = str(info.arguments.get("worker_extension_cls") or "")
    revision = hopper.REVISION if hopper.is_asked_for(info.arguments) else None
    return UsedExtension(name, revision) if name else None
