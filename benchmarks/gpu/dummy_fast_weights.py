"""The package's own worker extension, with random weights. BENCH_PLAIN_ATTENTION leaves its kernels out."""

import os

import dummy_weights

from mlperf_llama.engine.hopper import extension, model

assert dummy_weights and extension
if os.environ.get("BENCH_PLAIN_ATTENTION"):
    model.fast_attention = lambda layer: False


class Fast:
    """Both are in place once imported."""
