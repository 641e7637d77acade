"""Each name of vLLM's that the package touches, in the vLLM that is installed here."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlperf_llama import engine
from mlperf_llama.engine import hopper
from mlperf_llama.engine import vllm as vllm_engine
from mlperf_llama.engine.checkpoint import quantization_of
from mlperf_llama.engine.hopper import compat
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import BrokeError, MissingError

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
import vllm_names

FOLDER = Path(str(engine.__file__)).parent
# What every user of vLLM may import.
PUBLIC = {"vllm", "vllm.SamplingParams"}


@pytest.fixture
def vllm() -> object:
    return pytest.importorskip("vllm")


@pytest.mark.slow
@pytest.mark.parametrize("name", compat.NAMES)
def test_vllm_has_it(name: str, vllm: object) -> None:
    found = getattr(compat, name)
    for attribute in compat.ATTRIBUTES.get(name, ()):
        fields = getattr(found, "__dataclass_fields__", {})
        assert hasattr(found, attribute) or attribute in fields, f"{name}.{attribute}"


def test_attributes_are_of_known_names() -> None:
    assert set(compat.ATTRIBUTES) | set(compat.PARAMETERS) <= set(compat.NAMES)


def test_the_sources_of_the_installed_vllm_have_every_name() -> None:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed here")
    assert vllm_names.missing(Path(spec.origin).parents[1]) == []


def test_a_name_is_found_in_sources_where_it_is_defined(tmp_path: Path) -> None:
    files = {
        "vllm/__init__.py": "from .inside import here as there\n",
        "vllm/inside.py": "try:\n    import x\nexcept ImportError:\n    here = 1\ngone_is_text = 'gone'\n",
        "vllm/part/__init__.py": "from .classes import Child\nfrom .no import Lost\nfrom .more import *\n",
        "vllm/part/more.py": "def starred(): pass\n",
        "vllm/part/classes.py": (
            "class Base:\n    field: int\n    def f(self, *, by_name): self.made = 1\n"
            "class Child(Base):\n    pass\ndef function(given, *, by_name=1): pass\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    sources = vllm_names.Sources(tmp_path)
    assert sources.has("vllm", "there") and sources.has("vllm.inside", "here") and sources.has("vllm.part")
    assert not any(
        (sources.has("vllm.inside", "gone"), sources.has("vllm.gone"), sources.has("vllm.part", "Lost"))
    )
    assert all(sources.has_attribute("vllm.part", "Child", name) for name in ("field", "f", "made"))
    assert not sources.has_attribute("vllm.part", "Child", "gone")
    assert sources.has_attribute("vllm.inside", "", "here")
    assert sources.has_parameter("vllm.part.classes", "function", "by_name")
    assert not sources.has_parameter("vllm.part.classes", "function", "gone")


def imported(path: Path) -> set[str]:
    """What a module imports of vLLM's."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "vllm"}


def test_no_other_file_names_what_is_inside_vllm() -> None:
    for path in FOLDER.parent.rglob("*.py"):
        if path.name != "compat.py":
            assert imported(path) <= PUBLIC, path


@pytest.mark.slow
def test_a_name_that_vllm_lost_is_told_with_the_versions_that_had_it(
    vllm: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compat.NAMES, "Scheduler", ("vllm.v1.core.sched.scheduler", "Gone"))
    with pytest.raises(MissingError, match=r"expected vllm.v1.core.sched.scheduler.Gone, as in 0\.26\.0"):
        from mlperf_llama.engine.hopper.compat import Scheduler  # noqa: F401


def test_a_name_that_is_not_in_the_list_is_a_bug() -> None:
    with pytest.raises(AttributeError):
        compat.Nothing  # noqa: B018


def with_version(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__=version))
    monkeypatch.setattr(vllm_engine, "prepare_environment", lambda *_: None)


def start(extension: str) -> None:
    arguments = {"model": "m", "worker_extension_cls": extension}
    asyncio.run(VllmEngine(arguments, Path("/nowhere"), {}).start(lambda message: None))


@pytest.mark.parametrize("version", [*compat.CHECKED, "0.26.0+cu130"])
def test_the_fast_path_takes_the_versions_it_was_checked_against(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(version, monkeypatch)
    compat.check_version("it")


def test_another_version_is_refused_before_anything_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    with_version("0.99.0", monkeypatch)
    with pytest.raises(MissingError, match=r"0\.26\.0 and 0\.27\.1, found 0\.99\.0: .*worker_extension_cls"):
        start(hopper.EXTENSION)


def test_made_up_weights_need_one_of_these_versions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere vLLM would fill them by itself, with scales of 1."""
    with_version("0.30.0", monkeypatch)
    with pytest.raises(MissingError, match=r"made-up weights .*found 0\.30\.0: .* a model that has weights"):
        start(hopper.RANDOM)


def test_without_the_fast_path_another_version_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_version("0.99.0", monkeypatch)
    # It goes on, to the first name that is asked for.
    monkeypatch.setitem(compat.NAMES, "current_platform", ("nowhere", ""))
    with pytest.raises(MissingError, match=r"vLLM 0\.99\.0: expected nowhere"):
        start("")


@pytest.mark.parametrize(
    ("arguments", "checkpoint", "reason"),
    [
        ({}, None, None),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 1, "enable_lora": False}, None, None),
        ({"quantization": "fp8"}, None, None),
        ({"quantization": "int8"}, None, None),
        ({}, "fp8", None),
        ({}, "compressed-tensors", None),
        ({"pipeline_parallel_size": 2}, None, "pipeline_parallel_size=2"),
        ({"decode_context_parallel_size": 2}, None, "decode_context_parallel_size=2"),
        ({"enable_lora": True}, None, "enable_lora"),
        ({"speculative_config": {"method": "ngram"}}, None, "speculative_config"),
        ({"quantization": "modelopt"}, None, "quantization=modelopt"),
        ({}, "awq", "quantization=awq"),
    ],
)
def test_what_the_fast_path_serves(
    arguments: dict[str, object], checkpoint: str | None, reason: str | None
) -> None:
    assert hopper.not_served(arguments, checkpoint) == reason


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (None, None),
        ("{}", None),
        ("broken", None),
        ('{"quantization_config": {"quant_method": "awq"}}', "awq"),
        ('{"quantization_config": {}}', "unknown"),
    ],
)
def test_a_checkpoint_names_its_quantisation(config: str | None, method: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert quantization_of(tmp_path) == method


@pytest.mark.parametrize(
    ("load_format", "extension"), [("auto", ""), ("dummy", hopper.RANDOM)], ids=["weights", "made-up"]
)
def test_what_the_fast_path_does_not_serve_takes_vllm_s_own(
    load_format: str, extension: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line, and as if the extension had not been asked for."""
    with_version(compat.CHECKED[-1], monkeypatch)
    given = {"model": "m", "worker_extension_cls": hopper.EXTENSION, "load_format": load_format}
    taken: dict[str, object] = {}

    def load(**arguments: object) -> None:
        taken.update(arguments)
        raise RuntimeError("far enough")

    platform = SimpleNamespace(device_type="cpu")
    monkeypatch.setitem(vars(compat), "current_platform", platform)
    monkeypatch.setitem(vars(compat), "AsyncEngineArgs", load)
    lines: list[str] = []
    engine = VllmEngine(hopper.with_extension({**given, "enable_lora": True}), Path("/nowhere"), {})
    with caplog.at_level("WARNING"), pytest.raises(BrokeError, match="far enough"):
        asyncio.run(engine.start(lines.append))
    assert taken["worker_extension_cls"] == extension and "compilation_config" not in taken
    assert [record.message for record in caplog.records] == ["fast_path served=False reason=enable_lora"]
    assert sum("enable_lora" in text for text in lines) == 1
