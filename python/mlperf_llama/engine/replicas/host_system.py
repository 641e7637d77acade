"""What the host is that this runs on, for a head that is elsewhere: a system record as JSON.

Usage: python -m mlperf_llama.engine.replicas.host_system
"""

from __future__ import annotations

import json
import os
import sys

from ...machine import system
from ...records.codec import to_json


def described() -> str:
    """With the GPUs that CUDA will use here."""
    return json.dumps(to_json(system.describe(os.environ)))


if __name__ == "__main__":
    sys.stdout.write(described())
