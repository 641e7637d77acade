"""The package's floors: imports go downward only, without a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mlperf_llama

ROOT = Path(mlperf_llama.__file__).parent
# From the lowest floor up. A module may import from its own package and from the floors below: names on
# one line stand beside each other, and import each other only in the order in which they stand.
LAYERS = (
    ("errors", "rules", "settings", "credentials", "config"),
    ("records", "machine", "terminal"),
    ("sources", "engine", "loadgen"),
    ("score", "verdict", "quantize"),
    ("bench",),
    ("tune", "curve", "report", "submission", "doctor", "auth", "bundle"),
    ("cli",),
    ("__main__",),
)
ORDER = {name: number for number, name in enumerate(name for layer in LAYERS for name in layer)}


def _modules() -> dict[str, Path]:
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def _imports(name: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of this package that a module names, also inside a function or for types alone."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] + (node.module or "").split(".")
            module = ".".join(part for part in base if part)
            for alias in node.names:
                whole = f"{module}.{alias.name}".strip(".")
                yield whole if whole in modules else module
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("mlperf_llama."):
            module = str(node.module).removeprefix("mlperf_llama").strip(".")
            yield from (f"{module}.{alias.name}".strip(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            own = (alias.name for alias in node.names if alias.name.startswith("mlperf_llama."))
            yield from (name.removeprefix("mlperf_llama.") for name in own)


def test_every_package_has_a_floor() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    packages |= {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert packages | {path.stem for path in ROOT.glob("*.py")} - {"__init__"} == set(ORDER)


def test_imports_go_downward() -> None:
    modules = _modules()
    upward = []
    for name, path in modules.items():
        here = name.split(".")[0]
        for target in filter(None, _imports(name, path, modules)):
            there = target.split(".")[0]
            if here and here != there and ORDER[there] > ORDER[here]:
                upward.append(f"{name} imports {target}")
    assert not upward


def test_no_import_circle() -> None:
    modules = _modules()
    needs = {
        name: set(_imports(name, path, modules)) & modules.keys() - {"", name}
        for name, path in modules.items()
    }
    while needs:
        free = {name for name, targets in needs.items() if not targets & needs.keys()}
        assert free, f"a circle among: {', '.join(sorted(needs))}"
        needs = {name: targets for name, targets in needs.items() if name not in free}


def test_a_listing_shows_few_modules() -> None:
    assert len([path for path in ROOT.glob("*.py") if path.name != "__init__.py"]) <= 5
