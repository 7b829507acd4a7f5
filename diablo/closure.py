"""All definitions that an entry point reaches, each with a hash: what its result depends on."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from diablo.code_graph import EFFECTS, Graph, Module, Target, imported


class Closure:
    """What is reached from some entry points.

    Args:
        graph: of the source.
        chosen: package -> its modules that a name made at run time can mean (default: any of them).
        apart: more modules that are not looked into.

    Attributes:
        found: `module:name` -> SHA-256 of its plain source; `module>name` -> what of another library the
            name stands for; path of a data file (relative to the root) -> SHA-256.
    """

    def __init__(
        self,
        graph: Graph,
        chosen: Mapping[str, Collection[str]] | None = None,
        apart: Collection[str] = (),
    ):
        self.graph, self.chosen, self.apart = graph, chosen or {}, apart
        self.found: dict[str, str] = {}
        self._visited: set[Target] = set()
        self._touched: set[str] = set()
        self._todo: list[Target] = []

    def follow(self, *entries: Target) -> Closure:
        """Add entry points with all that they reach.

        Raises:
            ValueError: if one is not there.
        """
        for module, name in entries:
            here = self.graph.module(module)
            if here is None or not (name is None or {name} & {*here.definitions, *here.aliases}):
                raise ValueError(f"{module}:{name}: there is no such function in {self.graph.root}")
        self._todo += entries
        while self._todo:
            self._visit(*self._todo.pop())
        return self

    @property
    def modules(self) -> set[str]:
        """Modules of which something is reached."""
        return {key.partition(":")[0] for key in self.found if ":" in key}

    def _want(self, module: str, name: str | None) -> None:
        if (module, name) not in self._visited:
            self._visited.add((module, name))
            self._todo.append((module, name))

    def _visit(self, name: str, symbol: str | None) -> None:
        module = self.graph.module(name)
        if module is None or self.graph.is_apart(name) or name in self.apart:
            return
        self._touch(name)
        if symbol is None:
            for one in module.definitions:
                self._want(name, one)
        elif symbol in module.definitions:
            self._read(module, symbol, module.definitions[symbol])
        elif symbol in module.aliases:
            self._resolve(module, module.aliases, [symbol])
        elif self.graph.module(f"{name}.{symbol}"):
            self._want(f"{name}.{symbol}", None)
        elif "." in name and "__getattr__" in module.definitions:
            self._want(name, "__getattr__")

    def _touch(self, name: str) -> None:
        """What an import runs: the module's own statements, its packages', those of what it imports.

        The topmost package is left out: its statements only see to it that PEFT knows the tuner, which
        `_resolve` follows from where PEFT is imported.
        """
        if name in self._touched or "." not in name or self.graph.is_apart(name):
            return
        self._touched.add(name)
        module = self.graph.module(name)
        if module is None:
            return
        self._touch(name.rpartition(".")[0])
        if module.effects:
            self._read(module, EFFECTS, module.effects)
        self._import(module.aliases)

    def _import(self, aliases: dict[str, Target]) -> None:
        for module, symbol in aliases.values():
            if module.split(".")[0] == "peft":
                self._want(f"{self._top}.tuner", None)
            self._touch(module)
            if symbol and self.graph.module(f"{module}.{symbol}"):
                self._touch(f"{module}.{symbol}")

    @property
    def _top(self) -> str:
        return "diablo"

    def _read(self, module: Module, symbol: str, statements: list[ast.stmt]) -> None:
        """Record a definition and follow what it refers to."""
        hashes = " ".join(map(self.graph.plain, statements))
        self.found[f"{module.name}:{symbol}"] = hashlib.sha256(hashes.encode()).hexdigest()
        for statement in statements:
            local: dict[str, Target] = {}
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    local |= imported(node, module.package)
            self._import(local)
            self._walk(module, module.aliases | local, statement)
            self._files(module, statement)

    def _walk(self, module: Module, aliases: dict[str, Target], node: ast.AST) -> None:
        chain: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            return self._resolve(module, aliases, [inner.id, *chain])
        if module.names_modules:
            self._named(node)
        for child in ast.iter_child_nodes(node):
            self._walk(module, aliases, child)

    def _resolve(self, module: Module, aliases: dict[str, Target], chain: list[str]) -> None:
        """Follow `a.b.c` from what `a` is bound to, as far as modules go."""
        head, *rest = chain
        if head not in aliases:
            if head in module.definitions:
                self._want(module.name, head)
            return
        name, symbol = aliases[head]
        here = self.graph.module(name)
        if here is None:
            self.found[f"{module.name}>{head}"] = f"{name}.{symbol or ''}"
            return
        rest = [symbol, *rest] if symbol else rest
        while rest:
            here = self.graph.module(name)
            assert here is not None, "a module"
            inside = self.graph.module(f"{name}.{rest[0]}")
            if rest[0] in here.definitions or rest[0] in here.aliases or inside is None:
                dunder = rest[0].startswith("__")  # module.__file__: the file, all of it
                return self._want(name, None if dunder else rest[0])
            name = f"{name}.{rest.pop(0)}"
        self._want(name, None)

    def _named(self, node: ast.AST) -> None:
        """Modules whose names are strings: `"diablo.x"`, or any of a package: `f"diablo.x.{name}"`."""
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            package = str(node.values[0].value).removesuffix(".")
            here = self.graph.module(package)
            if here and here.path.name == "__init__.py":
                names = {path.stem for path in here.path.parent.glob("*.py")} - {"__init__"}
                for name in sorted(self.chosen.get(package, names)):
                    self._want(f"{package}.{name}", None)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = node.value.split(".")
            named = len(parts) > 1 and all(map(str.isidentifier, parts))
            if named and self.graph.module(node.value):
                self._want(node.value, None)

    def _files(self, module: Module, statement: ast.stmt) -> None:
        """Data beside the code: `Path(__file__).with_name("x")`, and the templates of a `PackageLoader`."""
        names = {getattr(n, "id", getattr(n, "attr", None)) for n in ast.walk(statement)}
        if not names & {"__file__", "PackageLoader"}:
            return
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
                if "__file__" in names and "/" not in node.value.strip("."):
                    self._data(module.path.parent / node.value)
                if "PackageLoader" in names and (here := self.graph.module(node.value)):
                    self._data(here.path.parent / "templates")

    def _data(self, path: Path) -> None:
        """Record a file, or all files of a folder; source in it is read as source."""
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            key = file.relative_to(self.graph.root).as_posix()
            if not file.is_file() or "__pycache__" in file.parts or self.graph.is_apart(key):
                continue
            if file.suffix == ".py":
                self.found[key] = self.graph.plain(Module(key, file).tree)
            else:
                self.found[key] = hashlib.sha256(file.read_bytes()).hexdigest()
