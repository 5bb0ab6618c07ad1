"""Programs that use the client are checked by strict types, and import it quickly."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSUMER = ROOT / "tests/clients/consumer/consumer.py"
MOST_TIMES = 40  # what a bare interpreter takes, which is as slow on a slow processor
MISTAKES = """
from recall_client import AsyncRecallClient, RecallClient
client = RecallClient(timeout="soon")
number: int = client.labels()[0]
client.train(["cat", "dog"]).predict("photo.jpg").label
client.no_such_call()
client.recall(["cat"], per_labl=3)
client.train(["cat", "dog"]).wait(timeout="soon")
async def main(other: AsyncRecallClient) -> None:
    other.train(["cat", "dog"]).predict
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own, with nothing of this one's settings."""
    shutil.copy(CONSUMER, tmp_path / "consumer.py")
    (tmp_path / "mistaken.py").write_text(MISTAKES, encoding="utf-8")
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps(
            {"typeCheckingMode": "strict", "venvPath": str(Path(sys.prefix).parent), "venv": Path(sys.prefix).name}
        )
    )
    return tmp_path


def check(project: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_program_that_uses_the_whole_api_passes_strict_type_checks(project: Path, checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    cache = ROOT / ".mypy_cache/consumer"  # of its own, or the two would throw out each other's
    arguments = ["mypy", "--strict", f"--cache-dir={cache}"] if checker == "mypy" else ["pyright"]
    checked = check(project, [*arguments, "consumer.py", "mistaken.py"])
    assert "consumer.py:" not in checked.stdout, checked.stdout
    found = {number for number in range(2, 11) if f"mistaken.py:{number}:" in checked.stdout}
    assert found == {3, 4, 5, 6, 7, 8, 10}, checked.stdout + checked.stderr


def test_the_import_is_quick_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "PIL", "onnxruntime", "rich", "typer", "sqlite3", "anyio", "asyncio")
    program = f"import sys, recall_client; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
    # Seconds of the processor, once among several: others are busy on this machine too.
    bare = min(processor_seconds("pass") for _ in range(5))
    assert any(processor_seconds("import recall_client") < MOST_TIMES * bare for _ in range(20))


def processor_seconds(program: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
