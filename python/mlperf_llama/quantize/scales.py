"""Makes scales.json: from a model and calibration prompts, in a child process, kept in the cache.

What it is made of identifies it; the same again gives the same file, or one whose values lie next to these
(records/scales.py `differences`).
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..credentials import without_secrets
from ..errors import BrokeError, MissingError, UsageError
from ..records import scales
from ..records.files import digest
from ..records.scales import METHOD, Calibration, Method, Scales
from ..records.schema import Provided
from ..sources.fetch import child

TOKENIZER = "tokenizer.json"
# No prompt done for so long: 16 GB of weights may come from a slow disk first, and a CPU may be slow.
STALL_S, TIMEOUT_S = 1800.0, 8 * 3600.0

# Called with prompts done and in all.
Progress = Callable[[int, int], None]
Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Identity:
    """What scales depend on; the fields are those of Scales."""

    model_sha256: str
    tokenizer_sha256: str
    ids_sha256: str
    ids_count: int
    calibration: Calibration
    code_sha256: str
    method: Method = METHOD

    def key(self, device: str) -> str:
        """The name in the cache."""
        parts = map(repr, vars(self).values())
        return hashlib.sha256("\n".join([*parts, device]).encode()).hexdigest()[:32]

    def mismatches(self, record: Scales) -> list[str]:
        """In what a record is of something else."""
        return [
            f"{name} {getattr(record, name)}, expected {value}"
            for name, value in vars(self).items()
            if getattr(record, name) != value
        ]


def identity(model_sha256: str, model_dir: Path, articles: Provided, prompts: Prompts) -> Identity:
    """`articles`: as a source of sources/calibration served them."""
    uri = (articles.details or {}).get("uri")
    return Identity(
        model_sha256=model_sha256,
        tokenizer_sha256=tokenizer_sha256(model_dir),
        ids_sha256=scales.ids_sha256(prompts),
        ids_count=len(prompts),
        calibration=Calibration(
            source=str(articles.source),
            sha256=str(articles.sha256),
            uri=str(uri) if uri else None,
            revision=articles.revision,
        ),
        code_sha256=scales.code_sha256(),
    )


def tokenizer_sha256(model_dir: Path) -> str:
    path = model_dir / TOKENIZER
    if not path.is_file():
        raise UsageError(f"{model_dir}: expected {TOKENIZER}, found none")
    return digest(path)


def cache_path(cache_dir: Path, wanted: Identity, device: str) -> Path:
    return cache_dir / "scales" / f"{wanted.key(device)}.json"


def cached(path: Path, wanted: Identity, layers: int) -> Scales | None:
    """The kept record, where it is there, whole and of `wanted`."""
    try:
        record = scales.read(path, layers)
    except UsageError:
        return None
    return None if wanted.mismatches(record) else record


def make(
    model_dir: Path, wanted: Identity, prompts: Prompts, env: Mapping[str, str], progress: Progress
) -> Scales:
    """Scales by a child process, which gives the GPU's memory back when it ends.

    BrokeError: it failed, or gave values that are no scales.
    """
    from . import calibrate

    layers = scales.layers_of(model_dir)
    with tempfile.TemporaryDirectory(prefix="mlperf-scales-") as name:
        work = Path(name)
        calibrate.ask(work, model_dir, prompts)

        seen = 0

        def watch() -> int:
            nonlocal seen
            done = calibrate.done(work)
            if done > seen:
                seen = done
                progress(done, len(prompts))
            return seen

        try:
            child.run(
                f"scales of {model_dir.name}",
                [sys.executable, "-P", "-s", "-m", calibrate.__name__, work],
                env=_environment(env),
                stall_s=STALL_S,
                timeout_s=TIMEOUT_S,
                progress=watch,
            )
        except MissingError as error:
            raise BrokeError(str(error)) from None
        answer = calibrate.answered(work)
    if wrong := scales.problem(answer.scales, layers):
        raise BrokeError(f"scales of {model_dir}: {wrong}")
    values = {name: answer.scales[name] for name in scales.names(layers)}
    return Scales(**vars(wanted), torch=answer.torch, device=answer.device, scales=values)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """CUDA counts the GPUs as the driver does; transformers asks nobody and draws no bars."""
    own = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    return {**child.with_package(without_secrets(env)), **own}
