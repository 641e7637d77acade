"""A tiny Llama embedded in a larger shape: the same logits, the same bits in any order of summation."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors")

from mlperf_llama import config  # noqa: E402
from mlperf_llama.errors import MissingError  # noqa: E402
from mlperf_llama.records.schema import Provided  # noqa: E402
from mlperf_llama.report import published  # noqa: E402
from mlperf_llama.rules import ModelShape  # noqa: E402
from mlperf_llama.sources import model  # noqa: E402
from mlperf_llama.sources.chain import Served  # noqa: E402
from mlperf_llama.sources.model import checkpoint, standin, standin_8b, wide_llama, wide_numbers  # noqa: E402
from mlperf_llama.sources.model.shape import config_of, shape_of  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = ModelShape(
    hidden=48, heads=6, kv_heads=2, head_size=8, intermediate=40, layers=2, vocabulary=96
)  # fmt: skip
LARGE = ModelShape(
    hidden=128, heads=16, kv_heads=4, head_size=16, intermediate=200, layers=3, vocabulary=200
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of ordinary size, gains that are not one, an output matrix of its own is not there (tied)."""
    folder = tmp_path_factory.mktemp("small") / "tiny"
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(
        **config_of(SMALL), max_position_embeddings=64, tie_word_embeddings=True, rms_norm_eps=1e-5
    )
    network = transformers.LlamaForCausalLM(settings).float()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.mul_(0.5 + torch.rand_like(parameter) if "norm" in name else 10.0)
    network.to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def wide(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "made"
    wide_llama.widen(small, folder, LARGE, torch.float32)
    return folder


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {k: v for name in checkpoint.shard_names(folder) for k, v in load_file(folder / name).items()}


def logits(folder: Path, tokens: Any) -> Any:
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return network(tokens).logits


def test_the_logits_are_the_small_model_s(small: Path, wide: Path) -> None:
    tokens = torch.randint(0, SMALL.vocabulary, (4, 60), generator=torch.Generator().manual_seed(1))
    old, new = logits(small, tokens), logits(wide, tokens)
    assert old.std() > 1
    assert float((new[..., : SMALL.vocabulary] - old).norm() / old.norm()) < 1e-5
    assert bool((new.argmax(-1) == old.argmax(-1)).all()), "an added row of the vocabulary never wins"
    # An added id means what the old id means, at which its row was copied.
    again = logits(wide, tokens + SMALL.vocabulary)
    assert float((again - new).abs().max()) == 0


def test_it_is_whole_has_the_shape_and_is_dense(wide: Path) -> None:
    assert checkpoint.problem(wide) == ""
    read = json.loads((wide / "config.json").read_text())
    assert shape_of(read) == LARGE
    for name, tensor in tensors(wide).items():
        if "q_proj" in name:  # pairs of new frequencies
            assert float((tensor == 0).float().mean()) == 0.5
        elif "norm" not in name:
            assert float((tensor == 0).float().mean()) < 0.01, name


def test_an_added_layer_adds_nothing_by_dense_matrices(wide: Path) -> None:
    found = tensors(wide)
    last = LARGE.layers - 1
    hidden = torch.randn(5, LARGE.hidden, generator=torch.Generator().manual_seed(2))
    matrices = [found[f"model.layers.{last}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")]
    gate, up, down = matrices
    added = (torch.nn.functional.silu(hidden @ gate.T) * (hidden @ up.T)) @ down.T
    sizes = (torch.nn.functional.silu(hidden @ gate.T) * (hidden @ up.T)).abs() @ down.abs().T
    assert float(added.norm() / sizes.norm()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_order_of_summation_changes_no_bit(
    small: Path, tmp_path: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another BLAS or a GPU would sum: one term after another, from the last."""
    wide_llama.widen(small, tmp_path / "a", LARGE, dtype)

    def backwards(a: Any, b: Any) -> Any:
        total = torch.zeros(a.shape[0], b.shape[1], dtype=a.dtype)
        for term in reversed(range(a.shape[1])):
            total = total + a[:, term, None] * b[None, term]
        return total

    monkeypatch.setattr(torch.Tensor, "__matmul__", backwards)
    wide_llama.widen(small, tmp_path / "b", LARGE, dtype)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_draws_are_numpy_s_own_for_ever() -> None:
    """A NumPy that drew otherwise would make other weights."""
    assert wide_numbers.draw(2, 1, 2).tolist() == [9397851120949757170, 778092368607826051]
    assert np.sort(wide_numbers.order(7, 3)).tolist() == list(range(7))


def test_what_does_not_fit_is_refused(small: Path, tmp_path: Path) -> None:
    for field, value in (("head_size", 12), ("kv_heads", 1), ("layers", 1), ("vocabulary", 50)):
        given = ModelShape(**{**vars(LARGE), field: value})
        with pytest.raises(ValueError, match=field.split("_")[0].replace("kv", "heads")):
            wide_llama.widen(small, tmp_path / "no", given)
    with pytest.raises(ValueError, match="power of two"):
        wide_llama.widen(small, tmp_path / "no", ModelShape(**{**vars(LARGE), "hidden": 100}))


# The source


@pytest.fixture
def settings(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    def serve(given: config.Config, env: Any) -> Served:
        folder = given.cache_path / "models" / "small"
        if not folder.exists():
            shutil.copytree(small, folder)
        return Served("stand-in", str(folder), "0", False, "small")

    monkeypatch.setattr(standin, "serve", serve)
    return config.load({"MODEL": "stand-in-8b", "CACHE_DIR": str(tmp_path)}, {})


def test_the_source_is_named_and_never_eligible(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(what: str, command: list[Any], **_: Any) -> str:
        assert command[1:5] == ["-P", "-s", "-m", "mlperf_llama.sources.model.wide_llama"]
        wide_llama.widen(command[5], command[6], LARGE)
        return ""

    monkeypatch.setattr(standin_8b.child, "run", run)
    assert model.chain(settings) == ("stand-in-8b",)
    found = model.serve("stand-in-8b", settings, {})
    assert (found.source, found.eligible) == ("stand-in-8b", False)
    assert "not Llama-3.1-8B-Instruct" in found.reason
    assert published.has_the_shape(Provided(**vars(found)))
    assert not model.is_random(json.loads((Path(found.path) / "config.json").read_text()))
    monkeypatch.setattr(standin_8b.child, "run", None)
    assert model.serve("stand-in-8b", settings, {}) == found, "the second time nothing is made"
    assert {p.name for p in Path(found.path).parent.iterdir()} == {"small", Path(found.path).name}


def test_a_small_disk_is_named_before_anything_is_written(
    settings: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(standin_8b.shutil, "disk_usage", lambda path: usage(0, 0, 15.3e9))
    with pytest.raises(MissingError, match=r"needs 17 GB in .*, found 15\.3 GB free.*CACHE_DIR"):
        model.serve("stand-in-8b", settings, {})
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["small"]
