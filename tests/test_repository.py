"""What holds for the repository as a whole: it installs anywhere, names no machine, and its numbers agree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import recall_client
import recall_server
from tests.suite.needs import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT_PYPROJECT = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())
KERNELS = "trainer/objectives/inner/kernels/*_kernels.py"
CODE = ("recall_server", "trainer", "benchmarks", "clients")


def committed_files() -> list[Path]:
    """What is or would be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this copy of the tree is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def code_files() -> list[Path]:
    return [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]


def requirement_name(requirement: str) -> str:
    """The normalised name at the start of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]).lower()


def test_the_core_and_the_trainer_import_without_a_web_framework() -> None:
    program = """
import importlib, pathlib, sys
for name in ("fastapi", "starlette", "uvicorn", "multipart"):
    sys.modules[name] = None  # importing it raises ImportError
for package in ("recall_server", "trainer"):
    for path in sorted(pathlib.Path(package).rglob("*.py")):
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        web = module.startswith(("recall_server.api", "recall_server.cli"))
        if not web and not module.endswith("__main__"):
            importlib.import_module(module)
            print(module)
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert {"recall_server", "recall_server.core.memory", "trainer"} <= set(ran.stdout.split())


def test_importing_a_package_alone_loads_nothing_heavy() -> None:
    program = "import sys, recall_server, trainer; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_the_server_does_not_import_torchs_optimisers() -> None:
    """The first optimiser of a process imports torch's compiler: seconds of a request, and 150 MB."""
    files = sorted((ROOT / "recall_server").rglob("*.py"))
    assert [path.name for path in files if "torch.optim." in path.read_text(encoding="utf-8")] == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    # One letter in brackets, so that this file does not find itself.
    machine = [r"/wor[k]/\w", r"/roo[t]/\w", r"/op[t]/\w"]
    registry = [r"pyp[i]\.org", r"python[h]osted", r"npm[j]s\."]
    forbidden = re.compile("|".join(machine + registry).encode())
    found = []
    for path in committed_files():
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if match := forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group().decode()}")
    assert found == []


def test_the_version_is_the_same_in_all_places() -> None:
    released = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert released is not None
    assert released.group(1) == PYPROJECT["project"]["version"] == recall_server.__version__
    assert CLIENT_PYPROJECT["project"]["version"] == recall_client.__version__


def test_constraints_give_every_dependency_an_exact_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    constrained = {requirement_name(line) for line in lines}
    assert len(constrained) == len(lines)
    wanted = []
    for project in (PYPROJECT["project"], CLIENT_PYPROJECT["project"]):
        wanted += project["dependencies"]
        wanted += [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    assert {requirement_name(requirement) for requirement in wanted} - constrained == set()


def test_the_client_distribution_needs_no_torch() -> None:
    assert {requirement_name(each) for each in CLIENT_PYPROJECT["project"]["dependencies"]} == {"httpx2", "pydantic"}


@pytest.mark.parametrize("readme", ["README.md", "clients/python/README.md", "artifacts/README.md"])
def test_every_command_of_a_readme_exists(readme: str) -> None:
    text = (ROOT / readme).read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^|\$ )make ([a-z]+)", text, flags=re.MULTILINE)) - targets == set()
    assert {
        name for name in re.findall(r"benchmarks\.(\w+)", text) if not (ROOT / f"benchmarks/{name}.py").exists()
    } == set()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    assert [link for link in links if not (ROOT / readme).parent.joinpath(link).exists()] == []


def test_ci_runs_the_commands_of_a_newcomer() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("\nmake test")


def test_ci_refuses_skipped_tests_and_installs_the_programs_that_tests_need() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert re.search(r"^export CI=true\b", script, flags=re.MULTILINE)
    listed = re.search(r"^packages=\((.*)\)$", script, flags=re.MULTILINE)
    assert listed is not None
    assert listed.group(1).split() == [f"{program}:{package}" for program, package in sorted(PACKAGES.items())]


def test_modules_and_functions_stay_readable() -> None:
    long_modules = [f"{path.relative_to(ROOT)}" for path in code_files() if len(path.read_text().splitlines()) > 300]
    long_functions = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in code_files()
        if not path.match(KERNELS)  # a kernel is one function, so that what it holds stays in registers
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long_modules + long_functions == []


def test_rooms_stay_small_enough_to_draw() -> None:
    """At most twelve modules and sub-packages in a package; benchmarks are one command for each file."""
    packages = [path.parent for path in code_files() if path.name == "__init__.py"]
    full = {
        f"{package.relative_to(ROOT)}: {len(entries)}"
        for package in packages
        if package != ROOT / "benchmarks"
        if len(entries := [each for each in package.glob("*") if _is_room_entry(each)]) > 12
    }
    assert full == set()


def _is_room_entry(path: Path) -> bool:
    return (path / "__init__.py").exists() or (path.suffix == ".py" and path.name != "__init__.py")


def test_imports_stand_at_the_top_unless_the_dependency_is_optional() -> None:
    entry = ROOT / "recall_server" / "__main__.py"  # whose purpose is what happens before it imports the rest
    optional = {"PIL", "matplotlib", "numpy", "onnxruntime", "recall_client", "rich"}
    optional |= {"cryptography", "scipy", "sklearn", "torchvision", "uvicorn"}
    deferred = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in code_files()
        if path != entry
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and _imported_package(node) not in optional
    ]
    assert deferred == []


def _imported_package(node: ast.Import | ast.ImportFrom) -> str:
    name = (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
    return name.split(".")[0]
