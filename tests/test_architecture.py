"""The shape of the code: layers, sizes, docstrings, annotations, what an import loads."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "kinema"
FILES = sorted(PACKAGE.rglob("*.py"))
# From low to high: a file imports only from lower rows, or from its own row.
LAYERS = (
    ("errors", "files", "console", "workers", "fetch"),
    (
        "config",
        "streams",
        "recipes",
        "clip_recipes",
        "fusion_recipes",
        "stream_recipes",
        "scores",
        "metrics",
        "fusion",
        "score_formats",
        "comparison",
        "features",
        "fusion_tables",
        "fusion_networks",
        "fusion_svm",
        "trained_fusion",
        "stored_fusion",
        "stream_files",
    ),
    ("video",),
    ("flow",),
    ("packing", "framing"),
    ("datasets",),
    ("data", "models"),
    ("weights",),
    ("engine",),
    (
        "samples",
        "overlay",
        "charts",
        "mistakes",
        "html_report",
        "html_templates",
        "fused_checkpoint",
        "ensemble",
        "testing",
        "prediction",
        "overlay_video",
        "training_speed",
        "feature_run",
        "doctor_page",
        "run_folder",
        "run_scores",
        "fusion_plans",
        "run_fusions",
    ),
    ("pipeline", "environment"),
    ("api", "api_data", "api_motion"),
    (
        "cli",
        "cli_bench",
        "cli_data",
        "cli_doctor",
        "cli_download",
        "cli_features",
        "cli_flow",
        "cli_frames",
        "cli_groups",
        "cli_models",
        "cli_motion",
        "cli_scores",
        "cli_options",
        "cli_tables",
        "__init__",
        "__main__",
    ),
)
STRANGERS = {"data", "models", "datasets"}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 70, 8


def unit_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_units(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(path)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("kinema.")}
    return found


def layer_of(unit: str) -> int:
    rows = [i for i, row in enumerate(LAYERS) if unit in row]
    assert rows, f"'{unit}' has no place in the layers: give it one in tests/test_architecture.py"
    return rows[0]


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_imports_go_down(path: Path) -> None:
    unit = unit_of(path)
    for other in imported_units(path) - {unit}:
        assert layer_of(other) <= layer_of(unit), f"{unit} imports the higher {other}"
        assert not {unit, other} <= STRANGERS, f"{unit} and {other} must not know each other"


def test_no_import_cycle_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    modules = {".".join(["kinema", *p.relative_to(PACKAGE).with_suffix("").parts]) for p in FILES}
    for path in FILES:
        name = ".".join(["kinema", *path.relative_to(PACKAGE).with_suffix("").parts])
        graph[name] = {
            node.module
            for node in tree_of(path).body
            if isinstance(node, ast.ImportFrom) and node.module in modules
        }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"import cycle: {' -> '.join([*above, name])}"
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{function.name}: {length} lines"
        count = len(function.args.args) + len(function.args.kwonlyargs)
        # A command of the command line has one parameter per option.
        # A kernel of Triton has one for every array, stride and constant.
        is_kernel = any("triton" in ast.unparse(item) for item in function.decorator_list)
        if not (is_kernel or path.name.startswith("cli")):
            assert count <= MAX_PARAMETERS + 1, f"{function.name}: {count} parameters"


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_public_functions_are_documented_and_annotated(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "a module says why it exists"
    for function in functions(path):
        assert function.returns is not None, f"{function.name} has no return annotation"
        if not path.name.startswith("cli"):
            assert not function.args.kwarg or function.name.startswith("_"), function.name


def test_files_are_mostly_short() -> None:
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)
    assert lengths[len(lengths) // 2] <= 160


@pytest.mark.parametrize(
    "code", ["import kinema", "import kinema.cli", "import kinema.config, kinema.recipes"]
)
def test_light_imports_load_no_heavy_library(code: str) -> None:
    script = f"import sys\n{code}\nprint([m for m in ('torch', 'cv2', 'av') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
