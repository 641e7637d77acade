"""Scales made by the child process, chosen and kept by a run, and made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from test_prepare import write_tokenizer  # noqa: E402

from mlperf_llama import config  # noqa: E402
from mlperf_llama.bench import scales as choice  # noqa: E402
from mlperf_llama.bench import scales_again  # noqa: E402
from mlperf_llama.config import Config  # noqa: E402
from mlperf_llama.errors import BrokeError, InvalidError, MissingError, UsageError  # noqa: E402
from mlperf_llama.quantize import scales as making  # noqa: E402
from mlperf_llama.records import scales, seal  # noqa: E402, seal
from mlperf_llama.records.events import Events  # noqa: E402
from mlperf_llama.records.files import digest  # noqa: E402
from mlperf_llama.records.run_folder import RunFolder  # noqa: E402
from mlperf_llama.records.scales import Scales  # noqa: E402
from mlperf_llama.records.schema import (  # noqa: E402
    Event,
    Gpu,
    Provenance,
    Provided,
    Results,
    Scenario,
    System,
)
from mlperf_llama.sources.model import checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

H100 = Gpu(0, "NVIDIA H100 80GB HBM3", memory_gib=79.65, compute_capability="9.0")
A100 = Gpu(0, "NVIDIA A100-SXM4-80GB", memory_gib=79.25, compute_capability="8.0")
FP8 = {"QUANTIZATION": "fp8"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tokenizer(tmp_path_factory.mktemp("model") / "tiny")
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024,
    )  # fmt: skip
    transformers.LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: each child's start takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    path = tmp_path / "articles.jsonl"
    rows = [{"article": f"Rain number {n}.", "highlights": "Rain."} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Bench:
    """A run folder, its settings, and what was said."""

    def __init__(
        self, path: Path, model: Path, articles: Path, cache: Path, gpu: Gpu | None, **flags: str
    ) -> None:
        path.mkdir()
        self.run = RunFolder(path)
        base = {"CALIBRATION": str(articles), "CACHE_DIR": str(cache), "MODEL": str(model)}
        # A mirror, so that no test asks the real store.
        base["R2_BASE_URL"] = "http://127.0.0.1:9/metadata"
        self.config: Config = config.load({**base, **flags}, {})
        self.run.write(self.config)
        self.run.write(System(gpus=(gpu,) if gpu else ()))
        hashes = checkpoint.hash_files(model, checkpoint.shard_names(model))
        served = Provided(source="path", path=str(model), sha256=checkpoint.combined(hashes))
        self.run.write(Provenance(model=served))
        self.run.write(Results())
        self.said: list[str] = []

    def provide(self) -> None:
        def listen(event: Event) -> None:
            self.said.append(event.get("message", ""))

        with seal.stage(self.run, seal.MEASURED):
            choice.provide(self.run, self.config, {}, Events(None, listen))

    @property
    def record(self) -> Scales:
        return scales.read(self.run.file(Scales.FILE), layers=2)

    @property
    def provenance(self) -> Provenance:
        return self.run.read(Provenance)


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path, model: Path, articles: Path, cache: Path) -> Make:
    def make(gpu: Gpu | None = None, name: str = "run", **flags: str) -> Bench:
        return Bench(tmp_path / name, model, articles, cache, gpu, **flags)

    return make


def test_static_scales_by_the_real_child(bench: Make, model: Path, articles: Path) -> None:
    made = bench(SCALES="static", **FP8)
    made.provide()
    record, provenance = made.record, made.provenance
    assert set(record.scales) == set(scales.names(2))
    assert record.device == "cpu" or torch.cuda.is_available()
    assert record.ids_count == 3 and record.calibration.sha256 == digest(articles)
    assert provenance.model and record.model_sha256 == provenance.model.sha256
    assert provenance.scales and provenance.scales.mode == "static"
    assert provenance.scales.sha256 == digest(made.run.file(Scales.FILE))
    assert provenance.calibration and not provenance.calibration.eligible
    assert choice.path_in_use(made.run) == made.run.file(Scales.FILE)
    assert "static scales: 3 calibration articles, on the CPU" in made.said
    # A second run takes them from the cache.
    again = bench(name="again", SCALES="static", **FP8)
    again.provide()
    assert again.said[-1] == "static scales: 3 calibration articles, made before"
    assert again.run.file(Scales.FILE).read_bytes() == made.run.file(Scales.FILE).read_bytes()
    # A damaged one is made again.
    (kept,) = (again.config.cache_path / "scales").iterdir()
    kept.write_text("{}")
    third = bench(name="third", SCALES="static", **FP8)
    third.provide()
    assert third.record == record


def test_proven_weights_take_no_scales_of_an_earlier_run(
    tmp_path: Path, model: Path, articles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell a value that was edited where the scales are kept, but by making them."""
    value = [0.25]

    def make(folder: Path, wanted: making.Identity, *rest: object) -> Scales:
        return Scales(
            **vars(wanted), torch="2", device="cpu", scales=dict.fromkeys(scales.names(2), value[0])
        )

    monkeypatch.setattr(making, "make", make)
    taken = {}
    for name, value[0], eligible in (("first", 0.25, False), ("trial", 0.5, False), ("proven", 0.5, True)):
        run = Bench(tmp_path / name, model, articles, tmp_path / "cache", None, SCALES="static", **FP8)
        served = replace(run.provenance.model or Provided(), eligible=eligible)
        run.run.update(Provenance, model=served)
        run.provide()
        taken[name] = set(run.record.scales.values())
    assert taken == {"first": {0.25}, "trial": {0.25}, "proven": {0.5}}


def changed(record: Scales, name: str, steps: int) -> dict[str, float]:
    value = record.scales[name]
    for _ in range(steps):
        value = scales.rounded_up(value * (1 + 1e-6))
    return {**record.scales, name: value}


def test_made_again_and_compared(bench: Make, articles: Path) -> None:
    made = bench(SCALES="static", **FP8)
    made.provide()
    record, path = made.record, made.run.file(Scales.FILE)
    name = "model.layers.1.self_attn.q_scale"

    def verify(edited: Scales) -> str:
        scales.write(edited, path)
        return scales_again.verify(made.run, {}, lambda done, total: None)

    assert ": 1 of them next to the run's" in verify(replace(record, scales=changed(record, name, 1)))
    with pytest.raises(InvalidError, match=rf"{name} .* and .*, 2 steps, at most 1"):
        verify(replace(record, scales=changed(record, name, 2)))
    with pytest.raises(InvalidError, match=r"made of others than are here: model_sha256 f+, expected"):
        verify(replace(record, model_sha256="f" * 64))
    other = replace(record, scales=changed(record, name, 2), device="another card")
    assert scales.differences(record, other) == []
    articles.write_text(articles.read_text() * 2)
    with pytest.raises(InvalidError, match=r"ids_sha256 .*ids_count 3, expected 6"):
        verify(record)


# --- the choice


@pytest.mark.parametrize(
    ("gpu", "flags", "reason"),
    [
        (None, {"SCALES": "dynamic", **FP8}, "SCALES=dynamic"),
        (None, FP8, "this machine does not multiply FP8"),
        (A100, FP8, "NVIDIA A100-SXM4-80GB does not multiply FP8"),
    ],
)
def test_dynamic(gpu: Gpu | None, flags: dict[str, str], reason: str, bench: Make) -> None:
    made = bench(gpu, **flags)
    made.provide()
    assert made.said == [f"dynamic scales: {reason}"]
    assert made.provenance.scales and made.provenance.scales.mode == "dynamic"
    assert choice.path_in_use(made.run) is None and not made.run.file(Scales.FILE).exists()


@pytest.mark.parametrize("flags", [{"QUANTIZATION": "int8"}, {"ENGINE": "fake"}])
def test_nothing_to_choose(flags: dict[str, str], bench: Make) -> None:
    made = bench(H100, **flags)
    made.provide()
    assert made.said == [] and made.provenance.scales is None


def test_a_card_with_fp8_takes_static_scales_by_itself(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(H100)
    made.provide()
    assert "static scales: 3 calibration articles, about a minute" in made.said
    assert made.provenance.scales and made.provenance.scales.mode == "static"


def test_no_articles(bench: Make) -> None:
    nowhere = {"CALIBRATION": "mlcommons"}
    made = bench(H100, **nowhere)
    made.provide()
    assert made.said[-1].startswith("dynamic scales: no calibration articles could be had (mlcommons: ")
    assert made.provenance.calibration and made.provenance.calibration.attempts[0].outcome == "failed"
    with pytest.raises(
        MissingError, match="SCALES=static: expected static scales, found that no calibration"
    ):
        bench(H100, name="must", SCALES="static", **nowhere).provide()


def test_static_needs_fp8(bench: Make) -> None:
    with pytest.raises(MissingError, match=r"SCALES=static: .* not loaded with QUANTIZATION=fp8"):
        bench(SCALES="static").provide()


def test_a_file_that_is_no_articles(bench: Make, articles: Path) -> None:
    articles.write_text("nothing")
    with pytest.raises(UsageError, match="broken JSON"):
        bench(SCALES="static", **FP8).provide()


def test_a_child_that_fails(bench: Make, articles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    articles.write_text(articles.read_text() * 2)
    monkeypatch.setattr(making.sys, "executable", "/bin/false")
    with pytest.raises(BrokeError, match="scales of tiny: exit code 1"):
        bench(SCALES="static", **FP8).provide()


# --- a resumed run


def test_resumed_with_its_own_file(bench: Make) -> None:
    made = bench(SCALES="static", **FP8)
    made.provide()
    said = list(made.said)
    made.provide()
    assert made.said == said


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
def test_resumed_with_another_file(change: Callable[[Path], object], bench: Make) -> None:
    made = bench(SCALES="static", **FP8)
    made.provide()
    change(made.run.file(Scales.FILE))
    with pytest.raises(UsageError, match=r"scales\.json: expected sha256 .*, which this run began with"):
        made.provide()


def test_a_dynamic_run_is_resumed_dynamic(bench: Make, articles: Path) -> None:
    made = bench(SCALES="dynamic", **FP8)
    made.provide()
    made.run.file(Scales.FILE).write_text("{}")
    with pytest.raises(UsageError, match="expected sha256 None"):
        made.provide()


def test_an_older_run_stays_as_it_was(bench: Make) -> None:
    made = bench(H100)
    made.run.update(Results, scenarios={"Offline": Scenario()})
    made.provide()
    assert made.said == [] and made.provenance.scales is None


def test_a_foreign_file_is_refused(bench: Make) -> None:
    made = bench(SCALES="static", **FP8)
    made.run.file(Scales.FILE).write_text("{}")
    with pytest.raises(UsageError, match="expected none before the run makes it"):
        made.provide()
