"""The roofline against numbers worked by hand, and against every published result."""

from __future__ import annotations

import pytest

from mlperf_llama.machine import gpu_table, roofline
from mlperf_llama.machine.gpu_table import GpuSpec
from mlperf_llama.machine.roofline import PRECISIONS, predict
from mlperf_llama.records.schema import Gpu
from mlperf_llama.report import published
from mlperf_llama.rules import MODEL_SHAPE, ModelShape

# An earlier private run of this benchmark on an A30, float16.
A30_MEASURED = 3.40


def find_gpu(name: str) -> GpuSpec | None:
    return gpu_table.find_gpu(Gpu(name=name))


def limit_of(name: str, precision: str) -> roofline.Prediction:
    card = find_gpu(name)
    assert card is not None
    prediction = predict(card, PRECISIONS[precision])
    assert prediction is not None
    return prediction


def test_the_shape_is_llama_8b() -> None:
    # 32 x (2 x 4096 x 4096 + 2 x 4096 x 1024 + 3 x 4096 x 14336)
    assert MODEL_SHAPE.body_weights == 6_979_321_856
    assert MODEL_SHAPE.head_weights == 4096 * 128256
    # With the input embedding and the norms (65 x 4096) this is the published 8.03 billion.
    assert MODEL_SHAPE.body_weights + 2 * MODEL_SHAPE.head_weights + 65 * 4096 == 8_030_261_248
    # 2 (K and V) x 32 layers x 8 heads x 128 values x 2 bytes = 128 KiB per token.
    assert MODEL_SHAPE.kv_bytes(2) == 131072


def test_a30_fp16_by_hand() -> None:
    prediction = limit_of("NVIDIA A30", "fp16")
    # Body: 2 x 6 979 321 856 x (895 + 127) = 14.2657 TFLOP; head: 2 x 525 336 576 x 128 = 0.1345;
    # attention: 524 288 x ((895^2 + 411^2) / 2 + 127 x 959) = 0.3181. Together 14.7183 over 165 TFLOP/s.
    assert prediction.compute_s == pytest.approx(14.7183 / 165, rel=1e-4)
    # Free: 24 x 0.92 - 1.5 - 13.9586 - 1.0507 - 1.0507 = 4.5200 GB, over 131 072 x 1023 bytes: 33 sequences.
    assert prediction.concurrency == 33
    # KV: 131 072 x 127 x 959 = 15.9637 GB; weights: 15.0093 GB x 128 / 33 = 58.2180. Over 933 GB/s.
    assert prediction.memory_s == pytest.approx((15.9637 + 58.2180) / 933, rel=1e-4)
    assert prediction.binds == "compute"
    assert prediction.limit == pytest.approx(11.211, abs=0.01)
    assert prediction.serial == pytest.approx(5.927, abs=0.01)


def test_a30_int8_by_hand() -> None:
    prediction = limit_of("NVIDIA A30", "int8")
    # Body at 330 TOP/s, the rest at 165: 14.2657 / 330 + 0.4526 / 165.
    assert prediction.compute_s == pytest.approx(14.2657 / 330 + 0.4526 / 165, rel=1e-4)
    # Body weights 6.9793 GB: free 11.4993 GB, 85 sequences; weights read (6.9793 + 1.0507) x 128 / 85.
    assert prediction.concurrency == 85
    assert prediction.memory_s == pytest.approx((15.9637 + 8.0300 * 128 / 85) / 933, rel=1e-4)
    assert prediction.limit == pytest.approx(21.76, abs=0.02)


def test_the_earlier_a30_run_left_room() -> None:
    fp16, int8 = limit_of("NVIDIA A30", "fp16"), limit_of("NVIDIA A30", "int8")
    assert fp16.share(A30_MEASURED) == pytest.approx(0.303, abs=0.002)
    assert int8.limit > 1.9 * fp16.limit


def test_measured_clocks_lower_the_limit() -> None:
    prediction = limit_of("NVIDIA H100 80GB HBM3", "fp8-kv8")
    assert prediction.limit == pytest.approx(130.4, abs=0.1)
    # 14.2657 / 1301 + 0.4526 / 989.4 seconds.
    assert prediction.sustained == pytest.approx(1 / (14.2657 / 1301 + 0.4526 / 989.4), rel=1e-3)


def test_smaller_kv_halves_its_reads_and_doubles_what_fits() -> None:
    wide, narrow = limit_of("NVIDIA L40S", "fp8"), limit_of("NVIDIA L40S", "fp8-kv8")
    assert narrow.concurrency in (2 * wide.concurrency, 2 * wide.concurrency + 1)
    assert narrow.memory_s == pytest.approx(wide.memory_s / 2, rel=0.01)
    assert (wide.binds, narrow.binds) == ("memory bandwidth", "compute")


def test_fewer_sequences_read_the_weights_more_often() -> None:
    card = find_gpu("NVIDIA H100 80GB HBM3")
    assert card is not None
    few = predict(card, PRECISIONS["fp16"], max_num_seqs=8)
    assert few is not None and few.concurrency == 8 and few.binds == "memory bandwidth"


def test_what_a_card_cannot_do_has_no_prediction() -> None:
    a30, a10 = find_gpu("NVIDIA A30"), find_gpu("NVIDIA A10")
    assert a30 is not None and a10 is not None
    assert predict(a30, PRECISIONS["fp8"]) is None, "Ampere has no FP8"
    big = ModelShape(layers=80, hidden=8192, heads=64, intermediate=28672)
    assert predict(a10, PRECISIONS["fp16"], big) is None, "70 billion weights do not fit"


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        ({}, "fp16"), ({"quantization": None, "kv_cache_dtype": "auto"}, "fp16"),
        ({"quantization": "fp8"}, "fp8"), ({"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}, "fp8-kv8"),
        ({"quantization": "int8"}, "int8"), ({"quantization": "modelopt_fp4"}, None),
        ({"kv_cache_dtype": "fp8"}, None),
    ],
)  # fmt: skip
def test_precision_of_engine_settings(settings: dict[str, str], precision: str | None) -> None:
    assert roofline.precision_of(settings) == precision


def test_a_card_without_fp8_multiplies_its_weights_in_16_bits() -> None:
    for name, precision in (("NVIDIA A30", "w8a16"), ("NVIDIA H100 80GB HBM3", "fp8")):
        assert roofline.precision_of({"quantization": "fp8"}, find_gpu(name)) == precision


def test_no_published_8_bit_result_beats_its_limit() -> None:
    """A limit that somebody has passed would be no limit. Rows that name 4 bits are left out."""
    checked = 0
    for row in published.comparable("llama3.1-8b", "Offline"):
        card = find_gpu(row.device.replace("H200-SXM-141GB", "H200"))
        if card is None or row.per_device is None or "FP4" in row.framework:
            continue
        limits = [p.limit for p in (predict(card, q) for q in PRECISIONS.values()) if p]
        assert row.per_device < max(limits), row
        checked += 1
    assert checked >= 8
