"""Which definitions of this project a function runs through, found in the source without importing it.

Definitions, not modules: `diablo.tables` and `diablo.training` share modules, but a training run calls
nothing that draws. A name is followed to what it is bound to, through imports at the top and inside
functions; what cannot be told (a module handed on as a value, a module's name made at run time) counts
as a whole. So a set may be too large, never too small: what is not followed is listed at `Graph`.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

#: A module and a name in it; None: all of it.
Target = tuple[str, str | None]

#: Statements that run when a module is imported, besides definitions.
EFFECTS = "<import>"

_COMPOUND = (ast.If, ast.Try, ast.For, ast.With, ast.While)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class _Plain(ast.NodeTransformer):
    """Leaves out what changes nothing: docstrings, annotations of functions, imports for type checkers."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)) and ast.get_docstring(node):
            node.body = node.body[1:]
        return super().generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        test = ast.unparse(node.test)
        if test in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"):
            return node.orelse
        return node


class Module:
    """One source file: what it defines, what its imports bind, what runs on import."""

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path
        self.tree = _Plain().visit(ast.parse(path.read_bytes(), str(path)))
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.effects: list[ast.stmt] = []
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.package = package.split(".")
        self.aliases: dict[str, Target] = {}
        for statement in self.tree.body:
            self._add(statement)

    def _add(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self.aliases |= imported(statement, self.package)
            return
        names = list(_bound(statement))
        for name in names:
            self.definitions.setdefault(name, []).append(statement)
        if not names or isinstance(statement, _COMPOUND):
            self.effects.append(statement)
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self.aliases |= imported(node, self.package)

    @cached_property
    def names_modules(self) -> bool:
        """Whether it imports modules by names that are made at run time."""
        return any(getattr(n, "attr", getattr(n, "id", "")) == "import_module" for n in self._nodes)

    @property
    def _nodes(self) -> Iterator[ast.AST]:
        return ast.walk(self.tree)


class Graph:
    """The definitions of the packages below a folder, and what each refers to.

    Not followed: attributes of objects (a method is reached with its class, and a class where something
    makes or checks its objects), functions' annotations, and modules whose names stand in no source.

    Args:
        root: folder that holds the packages (`diablo/`, `benchmarks/`).
        apart: modules, packages and data folders (relative to `root`) that are not looked into.
    """

    def __init__(self, root: Path, apart: Iterable[str] = ()):
        self.root, self.apart = root, tuple(apart)
        self._modules: dict[str, Module | None] = {}
        # By the node, not its id(), which another node has once this one is gone.
        self._plain: dict[ast.AST, str] = {}

    def module(self, name: str) -> Module | None:
        """The module of that name; None if it is none of these packages'."""
        if name not in self._modules:
            base = self.root / name.replace(".", "/")
            paths = (base.with_name(f"{base.name}.py"), base / "__init__.py")
            path = next((path for path in paths if path.is_file()), None)
            self._modules[name] = Module(name, path) if path else None
        return self._modules[name]

    def is_apart(self, name: str) -> bool:
        return any(name == one or name.startswith((f"{one}.", f"{one}/")) for one in self.apart)

    def plain(self, node: ast.AST) -> str:
        """SHA-256 of a statement without its place, docstrings and formatting."""
        if node not in self._plain:
            self._plain[node] = hashlib.sha256(ast.dump(node).encode()).hexdigest()
        return self._plain[node]


def imported(statement: ast.Import | ast.ImportFrom, package: list[str]) -> dict[str, Target]:
    """Name -> what an import statement binds it to."""
    if isinstance(statement, ast.Import):
        return {
            a.asname or a.name.split(".")[0]: (a.name if a.asname else a.name.split(".")[0], None)
            for a in statement.names
        }
    base = statement.module or ""
    if statement.level:
        above = package[: len(package) - statement.level + 1]
        base = ".".join([*above, base] if base else above)
    return {a.asname or a.name: (base, a.name) for a in statement.names}


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top of a module defines."""
    if isinstance(statement, (ast.ClassDef, *_FUNCTIONS)):
        yield statement.name
    elif isinstance(statement, (*_ASSIGNMENTS, *_COMPOUND)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(statement, _COMPOUND) and isinstance(node, (ast.ClassDef, *_FUNCTIONS)):
                yield node.name
    elif type(statement).__name__ == "TypeAlias":
        yield statement.name.id  # type: ignore[attr-defined]
