"""Imports run one way, without cycles, and the light commands load nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("curator", "cascade", "cli")

LAYERS: tuple[tuple[str, ...], ...] = (
    ("curator.errors", "curator.types"),
    ("curator.telemetry",),
    ("curator.engines",),
    # Read by the layers above it, made of records and tasks only.
    (
        "curator.fields",
        "curator.parsing",
        "curator.task",
        "curator.equivalence",
        "curator.sources",
        "curator.filters",
        "curator.dedup",
        "curator.confidence",
        "curator.votes",
        "curator.prior",
        "curator.independent",
        "curator.aggregate",
        "curator.calibration",
        "curator.selection",
        "curator.records",
    ),
    ("curator.shortlists", "curator.requests", "curator.annotate"),
    ("curator.journal", "curator.database", "curator.migrations", "curator.store"),
    (),
)
"""DESIGN.md's order, lowest first. A module may import its own layer and those below; modules that no
layer names stand above all of these (pipeline, methods, training, evaluation and their helpers)."""

TOP = len(LAYERS)
HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "datasets",
    "rensa",
    "openai",
    "trl",
    "peft",
    "accelerate",
    "sklearn",
    "pandas",
    "matplotlib",
    "sympy",
    "math_verify",
)
LAZY = ("duckdb", "pyarrow", "aiohttp", "numpy")
FOREIGN_TELEMETRY = {"curator.telemetry", "cli.logs", "cli.span_tree", "cli.spans", "cli.otlp", "cli.meters"}
"""`curator.telemetry` is the only user of the OpenTelemetry API; `cli.logs` sets up the SDK, cheaper than it comes, and
`cli.span_tree` names the type of what that recorded."""
MODELS = (
    "curator.engines.classifier",
    "curator.engines.encoder",
    "curator.engines.likelihood",
    "curator.engines.torch_model",
    "curator.engines.transformers",
    "curator.engines.vllm",
    "curator.engines.vllm_core",
    "curator.engines.vllm_samples",
    "curator.methods.experiment",
    "curator.methods.experiment_report",
    "curator.methods.knowledge_free",
    "curator.methods.students",
    "curator.methods.teachers",
    "curator.methods.weak_to_strong",
    "curator.training",
)
"""What `connect` and the trainers load in time of need."""
CASCADE_MAY_USE = (
    "curator.types",
    "curator.errors",
    "curator.telemetry",
    "curator.engines",
    "curator.fields",
    "curator.parsing",
    "curator.task",
    "curator.confidence",
    "curator.calibration",
)


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported(module: str, *, at_import: bool = False) -> set[str]:
    """Names that a module imports: everywhere, or only those that run when it is imported."""
    found: set[str] = set()
    for node in _nodes(tree(module), at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def ours(module: str, *, at_import: bool = False) -> set[str]:
    return {name for name in imported(module, at_import=at_import) if name in modules() and name != module}


def _nodes(root: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(root):
        if at_import and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types(node)):
            continue
        yield node
        yield from _nodes(node, at_import)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if modules()[module].name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def within(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


def layer(module: str) -> int:
    return next((number for number, names in enumerate(LAYERS) if within(module, names)), TOP)


def curator_modules() -> list[str]:
    return sorted(name for name in modules() if name.startswith("curator."))


@pytest.mark.parametrize("module", curator_modules())
def test_imports_run_one_way(module: str) -> None:
    wrong = {name for name in ours(module) if name != "curator" and layer(name) > layer(module)}
    assert not wrong, f"{module} imports from above: {sorted(wrong)}"


def test_nothing_imports_the_command_line() -> None:
    users = {name for name in modules() if not within(name, ("cli",)) and any(within(i, ("cli",)) for i in ours(name))}
    assert not users


def test_curator_does_not_know_the_cascade() -> None:
    users = {name for name in curator_modules() if any(within(other, ("cascade",)) for other in ours(name))}
    assert not users


@pytest.mark.parametrize("module", sorted(name for name in modules() if within(name, ("cascade",))))
def test_the_cascade_uses_only_the_shared_parts(module: str) -> None:
    wrong = {
        name
        for name in ours(module)
        if within(name, ("curator",)) and name != "curator" and not within(name, CASCADE_MAY_USE)
    }
    assert not wrong, f"{module} imports {sorted(wrong)}"


def test_no_import_cycles() -> None:
    edges = {name: ours(name, at_import=True) for name in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"cycle: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in sorted(edges[name]):
                # `from package import module` runs the package first; that is no cycle of its own.
                if not within(name, (other,)):
                    visit(other, (*path, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_types_and_errors_import_nothing_of_ours() -> None:
    assert not ours("curator.types") - {"curator"}
    assert not ours("curator.errors") - {"curator"}


def test_only_telemetry_imports_opentelemetry() -> None:
    users = {name for name in modules() if any(within(other, ("opentelemetry",)) for other in imported(name))}
    assert users <= FOREIGN_TELEMETRY


def test_only_the_store_speaks_sql() -> None:
    """DuckDB also reads source files, and the ledger's for the bill; nothing else opens a database."""
    allowed = (
        "curator.store",
        "curator.database",
        "curator.journal",
        "curator.migrations",
        "curator.sources",
        "cli.bill",
    )
    users = {name for name in modules() if any(within(other, ("duckdb",)) for other in imported(name))}
    assert {name for name in users if not within(name, allowed) and not name.startswith("curator.store")} == set()


def loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after `code`."""
    script = f"{code}\nimport sys; print('\\n' + ' '.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=_environment(), check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


HELP = """
import sys
sys.argv = ["goldless", {}]
from cli.main import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import curator",
        "import curator.engines",
        "import cli.main",
        HELP.format("'--help'"),
        HELP.format("'curate', '--help'"),
    ],
    ids=["curator", "engines", "cli", "help", "curate-help"],
)
def test_the_core_and_help_load_nothing_heavy(code: str) -> None:
    assert not loaded(code) & set(HEAVY)


@pytest.mark.parametrize("code", ["import curator", "import cli.main", HELP.format("'--help'")])
def test_help_does_not_even_load_the_database(code: str) -> None:
    assert not loaded(code) & set(LAZY)


def test_heavy_libraries_are_loaded_by_the_modules_that_stand_for_them_only() -> None:
    """Importing anything else must not import them, not even through others."""
    heavy = {name for name in modules() if any(within(other, HEAVY) for other in imported(name, at_import=True))}
    while users := {name for name in modules() if ours(name, at_import=True) & heavy} - heavy:
        heavy |= users
    assert {name for name in heavy if not within(name, MODELS)} == set()
