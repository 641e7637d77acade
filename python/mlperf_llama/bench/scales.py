"""Decides whether a run's FP8 has static scales, and puts scales.json into the run folder before the engine.

A run that was begun keeps what it began with: its finished part used it. A run of proven weights makes its
own scales, whatever an earlier one has kept: nothing but making them shows that they are the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ..config import Config
from ..engine import derive
from ..engine.preset import choose_preset
from ..engine.settings import quantization_of
from ..errors import BrokeError, MissingError, UsageError
from ..records import lock, scales, seal
from ..records.events import Events
from ..records.files import JsonObject, digest, read_object
from ..records.run_folder import RunFolder
from ..records.scales import Scales
from ..records.schema import DYNAMIC, STATIC, Gpu, Provenance, Provided, Results, ScalesUsed
from ..settings import AUTO
from ..sources import calibration, chain, model
from .scope import first_gpu

STAGE = "scales"
FP8 = "fp8"


def path_in_use(run: RunFolder) -> Path | None:
    """The run's scales.json, where its engine is to load it."""
    used = run.read_or_new(Provenance).scales
    return run.file(Scales.FILE) if used is not None and used.is_static else None


def record_in_use(run: RunFolder) -> dict[str, object]:
    """Which scales the engine is loaded with, where they are static."""
    path = path_in_use(run)
    return {"scales_sha256": digest(path)} if path else {}


def provide(run: RunFolder, config: Config, env: Mapping[str, str], events: Events) -> None:
    """Choose the scales and record the choice; static ones are in the run folder when this ends.

    MissingError: SCALES=static, and they cannot be made here. UsageError: the folder's are not those that
    the run began with.
    """
    used = run.read(Provenance).scales
    if used is not None:
        _check_resumed(run, used)
        return
    if run.file(Scales.FILE).exists():
        raise UsageError(f"{run.file(Scales.FILE)}: expected none before the run makes it, found one")
    provided = run.read(Provenance).model or Provided()
    gpu = first_gpu(run)
    planned = _quantization(config, gpu, provided)
    if config.scales == AUTO and (planned != FP8 or run.read(Results).scenarios):
        return
    if reason := _obstacle(config, gpu, planned):
        _dynamic(run, config, events, reason)
        return
    try:
        articles = _articles(run, config, env, events)
    except MissingError as error:
        _dynamic(run, config, events, f"no calibration articles could be had ({error})")
        return
    _static(run, config, env, events, articles, gpu)


def _check_resumed(run: RunFolder, used: ScalesUsed) -> None:
    path = run.file(Scales.FILE)
    sha256 = digest(path) if path.is_file() else None
    if sha256 != used.sha256:
        raise UsageError(
            f"{path}: expected sha256 {used.sha256}, which this run began with, found {sha256}; "
            "put it back, or start a new run"
        )
    if sha256 is not None:
        scales.read(path)


def _quantization(config: Config, gpu: Gpu | None, provided: Provided) -> str | None:
    """How the weights will be quantised while they load; None: not at all, or they are already."""
    if config.engine != "vllm" or provided.path is None:
        return None
    model_config: JsonObject = read_object(Path(provided.path) / "config.json")
    if "quantization_config" in model_config or model.is_random(model_config):
        return None
    return quantization_of(config, choose_preset(config, gpu))


def _obstacle(config: Config, gpu: Gpu | None, planned: str | None) -> str:
    """Why the scales are dynamic, whatever articles there are; empty where they may be static."""
    if config.scales == DYNAMIC:
        return f"SCALES={DYNAMIC}"
    if planned != FP8:
        return f"16-bit weights are not loaded with QUANTIZATION={FP8}"
    if config.scales == AUTO and (gpu is None or not derive.card_of(gpu).fp8):
        return f"{gpu.name if gpu else 'this machine'} does not multiply FP8"
    return ""


def _dynamic(run: RunFolder, config: Config, events: Events, reason: str) -> None:
    if config.scales == STATIC:
        raise MissingError(f"SCALES={STATIC}: expected static scales, found that {reason}")
    run.update(Provenance, scales=ScalesUsed(DYNAMIC, reason))
    events.emit(STAGE, message=f"dynamic scales: {reason}")


def _articles(run: RunFolder, config: Config, env: Mapping[str, str], events: Events) -> Provided:
    """From the first source that serves them."""
    reasons = []
    for source in calibration.chain(config):
        events.emit(STAGE, message=f"calibration articles from {source}")
        try:
            chain.attempt(run, "calibration", source, partial(calibration.serve, source, config, env))
        except (MissingError, BrokeError) as error:
            reasons.append(f"{source}: {error}")
        else:
            return run.read(Provenance).calibration or Provided()
    raise MissingError("; ".join(reasons))


def _static(
    run: RunFolder,
    config: Config,
    env: Mapping[str, str],
    events: Events,
    articles: Provided,
    gpu: Gpu | None,
) -> None:
    # Imports torch.
    from ..quantize import calibration_prompts
    from ..quantize import scales as making

    provided = run.read(Provenance).model or Provided()
    model_dir = Path(str(provided.path))
    prompts = calibration_prompts(Path(str(articles.path)), model_dir, config.cache_path)
    wanted = making.identity(str(provided.sha256), model_dir, articles, prompts)
    kept = making.cache_path(config.cache_path, wanted, gpu.name if gpu else "cpu")
    counted = f"static scales: {len(prompts):,} calibration articles"

    def make() -> Scales:
        events.emit(STAGE, message=f"{counted}, {'about a minute' if gpu else 'on the CPU'}")
        record = making.make(
            model_dir,
            wanted,
            prompts,
            env,
            lambda done, total: events.emit(STAGE, done=done, total=total, unit="articles"),
        )
        _keep(record, kept)
        return record

    if run.is_tuning or not provided.eligible:
        # Of several runs that want the same scales, one makes them.
        with lock.turn(kept):
            record = making.cached(kept, wanted, scales.layers_of(model_dir))
            if record is not None:
                events.emit(STAGE, message=f"{counted}, made before")
            else:
                record = make()
    else:
        record = make()
    path = run.file(Scales.FILE)
    with seal.part(run, STAGE, Scales.FILE):
        scales.write(record, path)
    run.update(
        Provenance,
        scales=ScalesUsed(
            STATIC,
            sha256=digest(path),
            tokenizer_sha256=wanted.tokenizer_sha256,
            ids_sha256=wanted.ids_sha256,
            ids_count=wanted.ids_count,
        ),
    )


def _keep(record: Scales, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scales.write(record, path)
    except OSError as error:
        raise UsageError(
            f"CACHE_DIR: expected a folder with room to write in, could not write {path}: {error.strerror}"
        ) from None
