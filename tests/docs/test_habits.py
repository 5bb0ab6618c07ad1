"""What contributors are told to use works: hooks, templates and commands. The systemd units of the docs are valid."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, blocks
from tests.suite.needs import needs

TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
COMPLAINT = re.compile(r"Unknown (key|lvalue|section)|Failed to parse|Invalid|not a valid|Missing '='", re.IGNORECASE)


def test_the_four_commands_of_contributing_exist() -> None:
    first, *_ = blocks(ROOT / "CONTRIBUTING.md")
    named = re.findall(r"^make ([a-z]+)", first.content, flags=re.MULTILINE)
    assert named == ["install", "quick", "test", "format"]
    assert set(re.findall(r"make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text())) <= TARGETS


def test_hooks_are_local_and_run_the_tools_of_the_check_target() -> None:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in configuration["repos"]] == ["local"]
    entries = [hook["entry"].split()[0] for hook in configuration["repos"][0]["hooks"]]
    assert all(hook["language"] == "system" for hook in configuration["repos"][0]["hooks"])
    checked = re.findall(r"^\t\$\(BIN\)/(ruff|mypy|lint-imports)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {Path(entry).name for entry in entries} >= set(checked)
    for entry in entries:
        assert (Path(sys.executable).parent / Path(entry).name).exists(), entry


def test_the_hook_configuration_is_valid() -> None:
    runner = Path(sys.executable).with_name("prek")
    read = subprocess.run(
        [runner, "validate-config", ROOT / ".pre-commit-config.yaml"], capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stdout + read.stderr


@pytest.mark.parametrize("template", [path for path in TEMPLATES if path.stem != "config"], ids=lambda path: path.stem)
def test_issue_templates_have_required_and_unique_fields(template: Path) -> None:
    form = yaml.safe_load(template.read_text())
    assert form["name"]
    assert form["description"]
    fields = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(fields)) == len(fields)
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_make_docs_uses_the_pinned_generator() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [requirement.partition(">")[0] for requirement in extras["docs"]] == ["zensical"]
    assert "docs" in TARGETS
    makefile = (ROOT / "Makefile").read_text()
    assert "zensical build --strict" in makefile
    assert re.search(r"^\.PHONY:.* docs\b", makefile, flags=re.MULTILINE), "there is a folder of that name"


@needs("systemd-analyze")
def test_the_systemd_units_of_the_documentation_are_valid(tmp_path: Path) -> None:
    units = [block for block in blocks(DOCS / "deploying.md") if block.language == "ini"]
    assert units
    for number, block in enumerate(units):
        unit = tmp_path / f"shown-{number}.service"
        unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", block.content, flags=re.MULTILINE))
        said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if COMPLAINT.search(line)] == []


@needs("systemd-analyze")
def test_a_unit_with_a_misspelt_key_would_be_noticed(tmp_path: Path) -> None:
    unit = tmp_path / "misspelt.service"
    unit.write_text(f"[Service]\nExecStart={sys.executable}\nProtectSytem=strict\n")
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False).stderr
    assert COMPLAINT.search(said)
