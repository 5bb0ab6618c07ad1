"""What is installed: the wheel, and the container image."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from recall_server.core.bundle.bundle import MemoryBundle

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = frozenset(
    {"FROM", "WORKDIR", "RUN", "ARG", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.process
def test_the_wheel_holds_the_code_the_page_and_an_example_that_can_be_served(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    names = set(wheel.namelist())
    for folder in ("recall_server", "trainer"):
        code = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.suffix in CODE}
        assert code and code <= names
    (bundle,) = (name for name in names if name.startswith("recall_server/example_artifacts/"))
    assert len(MemoryBundle.load(wheel.extract(bundle, tmp_path)).labels) == 10
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


CODE = frozenset({".py", ".cpp", ".hpp", ".js", ".css", ".html"})


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    return [
        (name, arguments)
        for name, _, arguments in (line.partition(" ") for line in lines if line and not line.startswith("#"))
    ]


def test_the_dockerfile_copies_what_is_there_and_what_is_sent_to_the_engine() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {each for name, arguments in instructions() if name == "COPY" for each in arguments.split()[:-1]}
    assert copied == sent
    assert all((ROOT / each).exists() for each in copied)
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {described["project"]["readme"], *described["project"]["license-files"], "constraints.txt"}
    assert needed | {"pyproject.toml", "recall_server", "trainer"} <= copied


def test_the_dockerfile_installs_extras_that_exist_and_serves_under_an_account_of_its_own() -> None:
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any('".[${EXTRAS}]"' in arguments for name, arguments in found if name == "RUN")
    built = yaml.safe_load((ROOT / "compose.yaml").read_text())["x-image"]["build"]["args"]["EXTRAS"]
    asked = [dict(each.split("=") for name, each in found if name == "ARG")["EXTRAS"], built]
    assert set(",".join(asked).split(",")) <= set(extras)
    order = [name for name, _ in found]
    assert order[0] == "FROM" and order[-1] == "CMD" and found[-1][1] == '["recall-server", "serve"]'
    assert ("USER", "recall") in found


def test_compose_publishes_no_port_of_ray_and_sets_a_token_everywhere() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    (ports,) = (service["ports"] for service in services.values() if "ports" in service)
    assert ports == services["server"]["ports"] == ["127.0.0.1:${SERVER_PORTS:-8000}:8000"]
    for name in ("server", "head", "node"):
        told = services[name]["environment"]
        assert (told["RAY_AUTH_MODE"], told["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
        assert told["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
