"""`mlperf-llama execute` with a made-up NVML: two cards that draw 250 and 350 W by the clock.

python energy_driver.py RUN_DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import cast

from mlperf_llama.__main__ import main
from mlperf_llama.bench import execute
from mlperf_llama.machine.gpu_sampler import GpuSampler

sys.path.append(str(Path(__file__).parents[1] / "unit"))

if __name__ == "__main__":
    from test_energy import CARDS, Nvml

    execute.GpuSampler = lambda gpus: GpuSampler(CARDS, 0.1, lambda: cast(ModuleType, Nvml()))  # type: ignore[assignment,misc]
    sys.argv = ["mlperf-llama", "execute", "--run-dir", sys.argv[1]]
    sys.exit(main())
