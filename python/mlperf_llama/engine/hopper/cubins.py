"""Compiled kernels kept on disk, so that NVRTC compiles one once a machine and not at every start.

An entry is a file named by the SHA-256 of everything that decides its content; the SHA-256 of its own content
stands before it. Whatever is wrong with the folder or an entry costs a compilation, never the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ...records import files

log = logging.getLogger(__name__)

# Names the folder; without it every kernel is compiled.
VARIABLE = "MLPERF_LLAMA_KERNEL_CACHE"
_DIGEST_BYTES = hashlib.sha256().digest_size


def key(source: bytes, options: Sequence[str], compiler: str) -> str:
    """`source` is all there is to compile: it includes no file. `compiler`: its name and version."""
    parts = json.dumps([compiler, *options, hashlib.sha256(source).hexdigest()])
    return hashlib.sha256(parts.encode()).hexdigest()


def kept(name: str, compile_now: Callable[[], bytes]) -> bytes:
    """The entry `name`; where there is none that is whole, it is compiled and kept."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return compile_now()
    path = Path(folder) / f"{name}.cubin"
    cubin = _read(path)
    if cubin is None:
        cubin = compile_now()
        _write(path, cubin)
    return cubin


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("kept_kernel_unreadable path=%s reason=%s action=compile", path, error.strerror)
        return None
    digest, cubin = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if cubin and hashlib.sha256(cubin).digest() == digest:
        return cubin
    log.warning("kept_kernel_damaged path=%s action=compile", path)
    return None


def _write(path: Path, cubin: bytes) -> None:
    """Each process writes a file of its own and renames it: another reads the old, the new or none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as temporary:
            temporary.write_bytes(hashlib.sha256(cubin).digest() + cubin)
    except OSError as error:
        log.warning("kernel_not_kept path=%s reason=%s", path, error.strerror)
