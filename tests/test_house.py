"""The plan of the house: imports between rooms point down, and there is no circle."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# From the ground up: a room imports from itself, from its own floor and from those below.
FLOORS = [
    {"errors", "version"},
    {"system"},
    {"config"},
    {"metrics", "data", "model_files"},
    {"models"},
    {"distill", "runs"},
    {"evaluation"},
    {"tasks", "tracking"},
    {"training", "report"},
    {"sweep", "export", "predict"},
    {"cli"},
    {"doors"},
    {"hydra_plugins"},
]
DOORS = {
    "facedistill.__main__",
    "facedistill.train",
    "facedistill.compress",
    "facedistill.evaluate",
    "facedistill.worker",
}
# Imports that a process of its own, or a command, does late: the sweep has runs trained by processes that it starts.
LATE = {("facedistill.sweep.jobs", "facedistill.training.fit"), ("facedistill.report.__main__", "tracking")}
NO_TORCH = ("config", "runs", "sweep", "system", "predict")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, late: bool = True) -> set[str]:
    """The modules of ours that a file imports; ``late``: inside of functions, too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if late else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name in MODULES}


def room(module: str) -> str:
    top, _, rest = module.partition(".")
    if top == "hydra_plugins":
        return top
    if module == "facedistill":
        return "version"
    return "doors" if module in DOORS or module.endswith(".__main__") else rest.partition(".")[0]


def floor(module: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    assert found, f"{module} is in no room of the plan"
    return found[0]


def test_every_module_is_in_a_room() -> None:
    assert all(floor(module) >= 0 for module in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for other in imports(MODULES[module]):
        assert room(other) == room(module) or floor(other) < floor(module) or (module, other) in LATE, (
            f"{module} (floor {floor(module)}) imports {other} (floor {floor(other)})"
        )


def test_there_is_no_circle() -> None:
    graph = {module: imports(path) - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in NO_TORCH])
def test_a_plan_and_a_sweep_import_no_torch(module: str) -> None:
    early = ast.parse(MODULES[module].read_text()).body
    names = {
        name.split(".")[0]
        for node in early
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not names & {"torch", "pytorch_lightning", "timm", "albumentations", "wandb", "matplotlib", "pandas"}


def test_the_map_of_the_house_is_the_tree() -> None:
    text = (SOURCE.parent / "CONTRIBUTING.md").read_text()
    shown = re.search(r"```\n(conf/.*?)```", text, re.DOTALL)
    assert shown
    rooms = {path.name for path in (SOURCE / "facedistill").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(re.findall(r"^  ([a-z_]+)/", shown[1], re.MULTILINE))


PURE = {"isinstance", "len", "sum", "all", "any", "diff", "equal", "cat", "arange"}


def works(check: ast.expr) -> list[str]:
    """What in a condition may change something: calls of other than pure functions, assignments."""
    names = [node.func for node in ast.walk(check) if isinstance(node, ast.Call)]
    called = {name.id if isinstance(name, ast.Name) else getattr(name, "attr", "") for name in names}
    others = ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom
    return sorted(called - PURE) + [type(node).__name__ for node in ast.walk(check) if isinstance(node, others)]


@pytest.mark.parametrize("module", MODULES)
def test_an_assert_does_no_work(module: str) -> None:
    """Under ``python -O`` it is not there."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Assert):
            assert works(node.test) == [], f"{module}, line {node.lineno}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("len(a) == b.size and isinstance(c, int)", []),
        ("write(out, count) == start", ["write"]),
        ("names.pop() is None", ["pop"]),
        ("(size := 1) > 0", ["NamedExpr"]),
        ("makers[0]()", [""]),
    ],
)
def test_work_in_an_assert_is_found(text: str, found: list[str]) -> None:
    assert works(ast.parse(text, mode="eval").body) == found
