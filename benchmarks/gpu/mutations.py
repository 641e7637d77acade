"""Faults of kernels and metadata, one at a time, and which unit tests notice: `mutations.py [NAME...]`.

Each is a change of text in engine/hopper. Here a copy of the package gets it, and the tests named beside it
run there, on this CPU. measure_self_check.py puts the same faults into a loaded model on a GPU. Exit codes: 0
every fault fails a test, or can only be seen on a GPU; 1 some pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[2] / "python"
HOPPER = Path("mlperf_llama/engine/hopper")
STATIC, DYNAMIC = "static", "dynamic"


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in `file`. `tests`: unit tests that may notice. `models`: those whose self-check
    may, by their scales; none where a loaded model is compiled already or the fault would write outside of
    what it owns."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    models: tuple[str, ...] = (STATIC, DYNAMIC)

    def applied(self, text: str) -> str:
        if self.old not in text:
            raise ValueError(f"{self.name}: expected {self.old!r} in {self.file}, found none")
        return text.replace(self.old, self.new)


MUTATIONS = (
    Mutation(
        "sliding window ignored",
        "model.py",
        "        and core.sliding_window is None\n",
        "",
        ("test_hopper_model.py",),
        (),
    ),
    Mutation(
        "chunks taken for whole prompts",
        "attention.py",
        "(ends[decodes:rows] <= tokens[decodes:]).all()",
        "(ends[decodes:rows] <= ends[decodes:rows]).all()",
        ("test_hopper_builder.py",),
    ),
    Mutation(
        "a late answer taken for a prompt's neighbour",
        "attention.py",
        "(tokens == 1).cumprod(0).sum()",
        "(tokens == 1).sum()",
        ("test_hopper_builder.py",),
        (),
    ),
    Mutation(
        "prompts begin where the step does",
        "attention.py",
        "query_start_loc[decodes : rows + 1] - decodes",
        "query_start_loc[decodes : rows + 1]",
        ("test_hopper_builder.py",),
        (),
    ),
    Mutation(
        "pages of another prompt",
        "attention.py",
        "block_table=metadata.block_table[first : first + scales[0]]",
        "block_table=metadata.block_table[:1].expand(scales[0], -1)",
        ("test_hopper_attention.py",),
    ),
    Mutation(
        "wrong page",
        "decode.cu",
        "return at < table_stride ? table[at] : 0;",
        "return at < table_stride ? table[at ? at - 1 : 0] : 0;",
        ("test_hopper_kernels.py",),
    ),
    Mutation(
        "last key dropped",
        "decode.cu",
        "const int length = seq_lens[seq],",
        "const int length = seq_lens[seq] - 1,",
        ("test_hopper_kernels.py",),
    ),
    Mutation(
        "one key too many",
        "decode.cu",
        "row + 8 * (e >> 1) < remaining ?",
        "row + 8 * (e >> 1) <= remaining ?",
        ("test_hopper_kernels.py",),
    ),
    Mutation(
        "last round of tiles left out",
        "decode.cu",
        "const int tile_count = (tiles - warp + WARPS - 1) / WARPS;",
        "const int tile_count = max(1, (tiles - warp) / WARPS);",
        ("test_hopper_kernels.py",),
    ),
    Mutation(
        "query heads of a group exchanged",
        "decode.cu",
        "(kv_head * GROUP + row) * HEAD",
        "(kv_head * GROUP + (row ^ 1)) * HEAD",
        ("test_hopper_kernels.py",),
    ),
    Mutation(
        "cache read with another layer's scales",
        "attention.py",
        "metadata.seq_lens, *_scales(layer))",
        "metadata.seq_lens, *_scales(_scales.__dict__.setdefault('first', layer)))",
        ("test_hopper_attention.py",),
        (STATIC,),
    ),
    Mutation(
        "values written with half their scale",
        "qkv.cu",
        "inv_k_scale : inv_v_scale;",
        "inv_k_scale : 0.5f * inv_v_scale;",
        ("test_hopper_fused.py",),
        (STATIC,),
    ),
    Mutation(
        "rotated the other way, one kernel",
        "qkv.cu",
        "low[i] = x * cosine - high[i] * sine;",
        "low[i] = x * cosine + high[i] * sine;",
        ("test_hopper_fused.py",),
        (STATIC,),
    ),
    Mutation(
        "rotated the other way, two kernels",
        "rope_cache.cu",
        "bf16x2(x0 * c0 - y0 * s0,",
        "bf16x2(x0 * c0 + y0 * s0,",
        ("test_hopper_kernels.py",),
        (DYNAMIC,),
    ),
    Mutation(
        "tokens written beside their slots",
        "rope_cache.cu",
        "(slot & ((1 << PAGE_SHIFT) - 1)) * TOKEN_STRIDE",
        "((slot ^ 1) & ((1 << PAGE_SHIFT) - 1)) * TOKEN_STRIDE",
        ("test_hopper_kernels.py",),
        (DYNAMIC,),
    ),
    Mutation(
        "chunks see what follows",
        "attention.py",
        '"causal": True,',
        '"causal": False,',
        ("test_hopper_attention.py",),
    ),
    Mutation(
        "activation's output with its input's scale",
        "fused.py",
        "gate_up(x, w, x_scale, w_scale, out_scale, out)",
        "gate_up(x, w, x_scale, w_scale, x_scale, out)",
        ("test_hopper_model.py",),
        (STATIC,),
    ),
    Mutation(
        "activation of the neighbour",
        "gate_up.cu",
        "e4m3x2(g0 * u0 * out_scale * (b * both),",
        "e4m3x2(g1 * u0 * out_scale * (b * both),",
        ("test_hopper_fused.py",),
        (STATIC,),
    ),
    Mutation(
        "residual left out",
        "gemm.py",
        "matmul.run(a, w, scale_a, scale_w, out, algorithm, _workspace(a.device), residual)",
        "matmul.run(a, w, scale_a, scale_w, out, algorithm, _workspace(a.device))",
        ("test_hopper_gemm.py",),
        (STATIC,),
    ),
    Mutation(
        "first layer's weights behind the last attention",
        "model.py",
        "layer = self.layers[len(self.layers) - 1]",
        "layer = self.layers[0]",
        ("test_hopper_model.py",),
    ),
)  # fmt: skip


def unit_tests_notice(mutation: Mutation) -> bool:
    """Whether a test of a changed copy of the package fails."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "python"
        shutil.copytree(PYTHON, copy, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PYTHON.parent / "pyproject.toml", folder)
        changed = copy / HOPPER / mutation.file
        changed.write_text(mutation.applied(changed.read_text()))
        paths = [str(copy / "tests/unit" / name) for name in mutation.tests]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths]
        env = {**os.environ, "PYTHONPATH": str(copy)}
        ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if ended.returncode not in (0, 1):
        raise RuntimeError(f"{mutation.name}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.returncode == 1


def main() -> int:
    chosen = [each for each in MUTATIONS if not sys.argv[1:] or each.name in sys.argv[1:]]
    survived = []
    for mutation in chosen:
        noticed = unit_tests_notice(mutation)
        print(
            f"{mutation.name:50} {'a unit test fails' if noticed else 'every unit test passes'}", flush=True
        )
        survived += [] if noticed else [mutation]
    return 1 if any(not mutation.models for mutation in survived) else 0


if __name__ == "__main__":
    sys.exit(main())
