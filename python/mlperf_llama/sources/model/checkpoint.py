"""A checkpoint folder: is it whole, which model is it, and what are its hashes."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...errors import MissingError, UsageError
from ...records.files import JsonObject, digest, object_or_empty, read_object, write_text
from .. import pins
from . import shape

log = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
HASH_THREADS = 4
# A safetensors header is limited to this by the format's own library.
MAX_HEADER_BYTES = 100_000_000

SHARDS = pins.WEIGHTS
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What vLLM and transformers read in a model's folder, of whatever name: weights, settings, code.
_READ = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".py")
# Of the official repository, beside the weights.
_OFFICIAL = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    INDEX,
)


class CorruptedError(MissingError):
    """A weight file's bytes are not those of its name in the hub's cache: `fault` says which."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"{fault}; remove it and run again")
        self.fault = fault


def problem(folder: Path, weights: bool = True) -> str:
    """Why the folder cannot be loaded; empty if it can. `weights` False: tokenizer and config only."""
    try:
        config = _object(folder / "config.json")
        if config.get("model_type") != "llama":
            architecture = config.get("model_type") or config.get("architectures")
            return f"{folder}: expected a Llama-architecture model, found {architecture!r} in config.json"
        if not any((folder / name).is_file() for name in TOKENIZERS):
            return f"{folder}: expected {' or '.join(TOKENIZERS)}, found neither"
        if not weights:
            return ""
        names = shard_names(folder)
        if not names:
            return f"{folder}: expected *.safetensors, found none"
        return next(filter(None, (_shard_problem(folder / name) for name in names)), "")
    except UsageError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"{folder}: {error}"


def shard_names(folder: Path) -> list[str]:
    """The weight files: those the index names, else every *.safetensors."""
    if (folder / INDEX).is_file():
        weight_map = _object(folder / INDEX).get("weight_map", {})
        if not isinstance(weight_map, dict):
            raise ValueError(f"{INDEX}: expected weight_map to name each tensor's file")
        return sorted(set(map(str, weight_map.values())))
    return sorted(path.name for path in folder.glob("*.safetensors"))


def digests(folder: Path, cache_dir: Path, remembered: bool = True) -> dict[str, str]:
    """SHA-256 of each weight file.

    `remembered`: an earlier one of the same path, size and time is taken, which says nothing of the
    bytes as they are now; without it all are read, 16 GB of the official weights, which loading then
    finds in memory.
    """
    known_path = cache_dir / "sha256.json"
    known = {key: str(sha256) for key, sha256 in object_or_empty(known_path).items()}
    keys = {name: _key((folder / name).resolve()) for name in shard_names(folder)}
    missing = [name for name, key in keys.items() if not remembered or key not in known]
    if missing:
        known |= {keys[name]: sha256 for name, sha256 in hash_files(folder, missing).items()}
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_text(known_path, json.dumps(known, indent=1))
    return {name: known[key] for name, key in keys.items()}


def hash_files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files, from their bytes."""
    started = time.monotonic()
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        hashes = dict(zip(names, pool.map(lambda name: digest(folder / name), names), strict=True))
    gb = sum((folder / name).stat().st_size for name in names) / 1e9
    log.info("hashed folder=%s files=%d gb=%.1f s=%.1f", folder, len(names), gb, time.monotonic() - started)
    return hashes


def corrupted(folder: Path, hashes: Mapping[str, str]) -> str:
    """A shard whose bytes are not those of its name in the hub's cache, which is its SHA-256."""
    for name, sha256 in hashes.items():
        blob = (folder / name).resolve()
        if _SHA256.fullmatch(blob.name) and blob.name != sha256:
            return f"{blob}: corrupted: its SHA-256 is {sha256}"
    return ""


def combined(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for all weight files: that of their sorted `sha256sum` lines."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def unproven(folder: Path) -> list[str]:
    """Files that an engine may read in the place of the proven ones: weights that the index does not name
    (vLLM prefers consolidated*.safetensors), settings that the official repository has not."""
    known = {*shard_names(folder), *_OFFICIAL}
    names = (path.name for path in folder.iterdir() if path.suffix in _READ and not path.name.startswith("."))
    return sorted(name for name in names if name not in known)


def shape_difference(folder: Path) -> str:
    """How config.json differs from Llama-3.1-8B's; empty if it does not."""
    config = _object(folder / "config.json")
    wrong = [name for name in shape.TELLING if config.get(name) != shape.CONFIG[name]]
    if wrong:
        name = wrong[0]
        return f"not Llama-3.1-8B: {name} is {config.get(name)!r}, not {shape.CONFIG[name]!r}"
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type") != "llama3" or rope.get("factor") != 8.0:
        return f"not Llama-3.1-8B: its rotary scaling is {rope}, not llama3 with factor 8"
    return ""


def other_model(folder: Path) -> str:
    """Why its configuration is not the official model's; empty if it is."""
    difference = shape_difference(folder) or _computed_otherwise(_object(folder / "config.json"))
    if difference:
        return difference
    quantization = _object(folder / "config.json").get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        return (
            f"quantised weights ({method}) that cannot be traced to the official ones; load the "
            "official checkpoint with QUANTIZATION=fp8, which makes its scales in the run"
        )
    return ""


def _computed_otherwise(config: JsonObject) -> str:
    """What in config.json makes another model of the same weights; empty if nothing does."""
    for name in shape.COMPUTING:
        if config.get(name, None if name in shape.NEEDED else shape.CONFIG[name]) != shape.CONFIG[name]:
            return f"not Llama-3.1-8B: {name} is {config.get(name)!r}, not {shape.CONFIG[name]!r}"
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    rope = {"rope_theta": config.get("rope_theta"), **(scaling if isinstance(scaling, dict) else {})}
    if rope != shape.ROPE:
        return f"not Llama-3.1-8B: its rotary embedding is {rope}, not {shape.ROPE}"
    more = sorted(config.keys() - shape.CONFIG.keys() - shape.UNREAD)
    return f"not Llama-3.1-8B: config.json has {', '.join(more)}, the official one has not" if more else ""


def _shard_problem(path: Path) -> str:
    """A shard that is absent or shorter than its own header says.

    Format: 8 bytes of header length (little-endian), a JSON header with each tensor's
    data_offsets, the data. https://huggingface.co/docs/safetensors
    """
    if not path.is_file():
        return f"{path}: expected this shard, found none"
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            return f"{path}: expected safetensors, found no valid header"
        header = json.loads(stream.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    if path.stat().st_size != expected:
        return f"{path}: expected {expected} bytes, found {path.stat().st_size}"
    return ""


def _object(path: Path) -> JsonObject:
    if not path.is_file():
        raise ValueError(f"expected {path.name}, found none")
    return read_object(path)


def _key(path: Path) -> str:
    state = path.stat()
    return f"{path} {state.st_size} {state.st_mtime_ns}"
