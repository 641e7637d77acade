"""The GPUs of the host that this runs on, for a head that is elsewhere: one line of JSON.

Usage: python -m mlperf_llama.engine.replicas.host_gpus
"""

from __future__ import annotations

import json
import os
import sys

from ...machine import gpus


def cuda_names(found: gpus.CudaGpus) -> list[str]:
    """Each GPU as CUDA_VISIBLE_DEVICES names it: by the driver's number, an instance of MIG by its UUID."""
    return [gpu.uuid if gpu.mig and gpu.uuid else str(gpu.index) for gpu in found.gpus]


def main() -> None:
    found = gpus.describe(os.environ)
    json.dump({"gpus": cuda_names(found), "failure": found.failure}, sys.stdout)


if __name__ == "__main__":
    main()
