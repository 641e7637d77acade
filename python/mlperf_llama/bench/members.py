"""Several engines in a session: made as one, recorded one by one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ..config import Config
from ..engine import Engine, EngineInfo
from ..engine.replicas import places, plan, settings
from ..engine.replicas.head import ReplicaEngine
from ..engine.replicas.launch_processes import ProcessLauncher, local
from ..engine.replicas.places import Placed
from ..engine.replicas.protocol import MemberSpec
from ..engine.replicas.router import TokenRouter
from ..engine.settings import EngineSettings
from ..errors import BrokeError, UsageError
from ..records import scales
from ..records.events import Events
from ..records.run_folder import RunFolder
from ..records.schema import Energy, Hosts, LostMember, Member, Provenance, System
from . import environment_record
from .scope import Scope

log = logging.getLogger(__name__)

# A step of a GPU's engine takes a second at most; one that is silent for so long hangs.
ENGINE_SILENCE_S = 8.0


class Session(Protocol):
    """What a session has that its members need."""

    @property
    def run(self) -> RunFolder: ...
    @property
    def config(self) -> Config: ...
    @property
    def events(self) -> Events: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def model_dir(self) -> Path: ...
    @property
    def members(self) -> list[MemberSpec]: ...
    @property
    def placed(self) -> Placed | None: ...
    @property
    def settings(self) -> EngineSettings: ...
    @property
    def engine(self) -> Engine: ...


def several(run: RunFolder, config: Config) -> bool:
    """Whether engines in processes of their own serve, here or on other hosts; yes also where GPUS is wrong,
    which is told where the members are made."""
    try:
        return bool(config.hosts) or len(plan.members(config, run.read(System).gpus)) > 1
    except UsageError:
        return True


@asynccontextmanager
async def placed(run: RunFolder, config: Config, env: Mapping[str, str]) -> AsyncIterator[Placed | None]:
    """The members on the hosts that HOSTS names, recorded; None where this host is meant. None of their
    processes is left behind it."""
    if not config.hosts:
        yield None
        return
    there = await places.place(config, env)
    try:
        run.write(Hosts(there.hosts))
        run.update(System, gpus=there.gpus)
        yield there
    finally:
        await there.launcher.stop()


def make_engine(session: Session) -> ReplicaEngine:
    """A member for each group of GPUs, of this host or of those that HOSTS names."""
    wanted, router, there = _settings(session), TokenRouter(), session.placed
    if there is None:
        return ReplicaEngine(session.members, wanted, router, ProcessLauncher(local))
    return ReplicaEngine(session.members, wanted, router, there.launcher, there.listen, there.token)


def _settings(session: Session) -> settings.MemberSettings:
    config = session.config
    if config.engine == "fake":
        return settings.MemberSettings("fake", dict(config.fake), engine_silence_s=ENGINE_SILENCE_S)
    wanted = session.settings
    model = session.run.read(Provenance).model
    cache_dir = config.cache_dir
    return settings.MemberSettings(
        engine=config.engine,
        arguments=dict(wanted.arguments),
        environment={name: value for name, value in wanted.environment.items() if name != scales.VARIABLE},
        scales=_scales(wanted.environment.get(scales.VARIABLE)),
        # On other hosts the working directory is another; ~ is put in there.
        cache_dir=cache_dir if cache_dir.startswith("~") else str(Path(cache_dir).absolute()),
        model_dir=str(session.model_dir.absolute()),
        model_sha256=model.sha256 if model else None,
        host_id=settings.host_id(),
        thorough=not session.scope.shortened,
        engine_silence_s=ENGINE_SILENCE_S if session.scope.on_gpu else None,
    )


def _scales(path: str | None) -> str | None:
    """The file's text: members on other hosts have no such file."""
    return None if path is None else Path(path).read_text(encoding="utf-8")


def record(session: Session) -> None:
    """Each member as it loaded, where there are several."""
    engine = session.engine
    if isinstance(engine, ReplicaEngine):
        reports = [(m.index, m.report) for m in engine.members.values() if m.report]
        members = (_member(index, report) for index, report in reports)
        session.run.update(Provenance, members=tuple(members))
        environment_record.add(session.run, *(report.process for _, report in reports if report.process))
        theirs = tuple(gpu for _, report in reports for gpu in report.gpus)
        if session.placed and theirs:
            session.run.update(System, gpus=theirs)
        session.events.follow(engine.gpu_readings, engine.member_counts)


def infos(session: Session) -> dict[int | None, EngineInfo]:
    """What each member loaded, by its index; empty where there is one engine."""
    engine = session.engine
    members = engine.members.values() if isinstance(engine, ReplicaEngine) else ()
    return {member.index: member.report.info for member in members if member.report}


def _member(index: int, report: settings.Loaded) -> Member:
    return Member(
        index=index,
        host=report.host,
        gpus=report.gpus,
        cpus=report.cpus,
        version=report.info.version,
        settings=report.info.settings,
        details=report.info.details,
        load_s=report.info.load_s,
        code_sha256=report.code_sha256,
        model_sha256=report.model_sha256,
        self_check=report.info.self_check,
    )


async def begin_run(session: Session, scenario: str, mode: str) -> None:
    """What becomes of the requests of a member that dies in the run that follows."""
    engine = session.engine
    if isinstance(engine, ReplicaEngine):
        stage = f"{scenario} {mode}"
        engine.on_loss = lambda loss: session.events.emit(
            stage,
            message=f"{loss.text}; its {loss.unfinished} unfinished samples go to the others, once more",
        )
        await engine.begin_run(redispatch=mode == "accuracy")


def counters(session: Session) -> tuple[dict[str, float], ...] | None:
    """Each member's totals; None where there is one engine."""
    engine = session.engine
    if not isinstance(engine, ReplicaEngine):
        return None
    return tuple(dict(member.counters) for member in engine.members.values())


async def energy(session: Session, timed_s: tuple[float, float]) -> tuple[Energy, ...] | None:
    """What each member's GPUs drew between two moments of the monotonic clock; None where there is one
    engine, or where one could not measure it."""
    engine = session.engine
    if not isinstance(engine, ReplicaEngine):
        return None
    try:
        drawn = await engine.energy(*timed_s)
    except BrokeError as error:
        # The run has ended: what a member that died since had drawn is not worth its figures.
        log.warning("member_energy error=%s", error)
        return None
    parts = tuple(part for part in drawn if part is not None)
    return parts if len(parts) == len(drawn) else None


@contextmanager
def one_alone(session: Session, wanted: bool = True) -> Iterator[int]:
    """Inside, the first of the members that are alike answers for all. How many there are: so many times its
    load the whole takes; 1 where all answer."""
    engine, count = session.engine, alike(session) if wanted else 1
    if count == 1 or not isinstance(engine, ReplicaEngine):
        yield 1
        return
    engine.use_members(1)
    try:
        yield count
    finally:
        engine.use_members(None)


def alike(session: Session) -> int:
    """How many members there are, all with one kind of GPU; 1 where they differ, or one engine is all."""
    engine = session.engine
    reports = [m.report for m in engine.members.values()] if isinstance(engine, ReplicaEngine) else []
    kinds = {tuple(gpu.name for gpu in report.gpus) for report in reports if report}
    return len(reports) if len(kinds) == 1 else 1


def losses(session: Session) -> tuple[LostMember, ...] | None:
    """Members lost since the run began; None where there were none."""
    engine = session.engine
    lost = engine.take_losses() if isinstance(engine, ReplicaEngine) else []
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        tuple(LostMember(loss.member, loss.name, loss.cause, loss.unfinished, now) for loss in lost) or None
    )
