"""A checkpoint folder: is it whole, which model is it, and what are its hashes."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...errors import UsageError
from ...records.files import JsonObject, digest, object_or_empty, read_object, write_text
from . import shape

log = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
HASH_THREADS = 4
# A safetensors header is limited to this by the format's own library.
MAX_HEADER_BYTES = 100_000_000

# SHA-256 of the shards of meta-llama/Llama-3.1-8B-Instruct, revision 0e9e39f2, as the Hub lists
# them for its large files and as several independent projects record them.
SHARDS = {
    "model-00001-of-00004.safetensors": "2b1879f356aed350030bb40eb45ad362c89d9891096f79a3ab323d3ba5607668",
    "model-00002-of-00004.safetensors": "09d433f650646834a83c580877bd60c6d1f88f7755305c12576b5c7058f9af15",
    "model-00003-of-00004.safetensors": "fc1cdddd6bfa91128d6e94ee73d0ce62bfcdb7af29e978ddcab30c66ae9ea7fa",
    "model-00004-of-00004.safetensors": "92ecfe1a2414458b4821ac8c13cf8cb70aed66b5eea8dc5ad9eeb4ff309d6d7b",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


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


def digests(folder: Path, cache_dir: Path) -> dict[str, str]:
    """SHA-256 of each weight file; remembered by path, size and time, since 16 GB take a while."""
    known_path = cache_dir / "sha256.json"
    known = {key: str(sha256) for key, sha256 in object_or_empty(known_path).items()}
    keys = {name: _key((folder / name).resolve()) for name in shard_names(folder)}
    missing = [name for name, key in keys.items() if key not in known]
    if missing:
        log.info("hashing folder=%s files=%d", folder, len(missing))
        with ThreadPoolExecutor(HASH_THREADS) as pool:
            hashes = pool.map(lambda name: digest(folder / name), missing)
            known |= {keys[name]: sha256 for name, sha256 in zip(missing, hashes, strict=True)}
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_text(known_path, json.dumps(known, indent=1))
    return {name: known[key] for name, key in keys.items()}


def corrupted(folder: Path, hashes: Mapping[str, str]) -> str:
    """A shard whose bytes are not those of its name in the hub's cache, which is its SHA-256."""
    for name, sha256 in hashes.items():
        blob = (folder / name).resolve()
        if _SHA256.fullmatch(blob.name) and blob.name != sha256:
            return f"{blob}: corrupted: its SHA-256 is {sha256}; remove it and run again"
    return ""


def combined(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for all weight files: that of their sorted `sha256sum` lines."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


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


def ineligible(folder: Path, hashes: Mapping[str, str]) -> str:
    """Why these are not the official weights; empty if they are, byte for byte."""
    difference = shape_difference(folder)
    if difference:
        return difference
    quantization = _object(folder / "config.json").get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        return (
            f"quantised weights ({method}) that cannot be traced to the official ones; load the "
            "official checkpoint with QUANTIZATION=fp8, which needs no calibration data"
        )
    if dict(hashes) != SHARDS:
        wrong = sorted(name for name in {*hashes, *SHARDS} if hashes.get(name) != SHARDS.get(name))
        return f"the weights are not meta-llama/Llama-3.1-8B-Instruct's: {', '.join(wrong[:4])} differ"
    return ""


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
