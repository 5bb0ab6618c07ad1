"""What `doctor` and `lock` print, and when they fail."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recall_server.cli import commands, doctor

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_doctor_lists_all_checks_and_fails_if_one_fails(artifacts: Path, tmp_path: Path) -> None:
    arguments = ["doctor", "--device=cpu", f"--state={tmp_path}"]
    good = CliRunner().invoke(commands.cli, [*arguments, f"--artifacts={artifacts}"])
    assert good.exit_code == 0, good.output
    assert "ok      bundle columns-images: 1 labels, query encoder on CPUExecutionProvider" in good.output
    assert "ok      address: 127.0.0.1, API keys: none" in good.output
    assert "ok      job table: can be written to" in good.output
    assert f"ok      temporary folder: {tempfile.gettempdir()} can be written to" in good.output
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "bad.safetensors").write_bytes(b"12345")
    bad = CliRunner().invoke(commands.cli, [*arguments, f"--artifacts={tmp_path}"])
    assert bad.exit_code == 1
    assert "PROBLEM file bad.safetensors: bad.safetensors: a file of 5 bytes is too short" in bad.output
    assert "PROBLEM bundles: none could be loaded" in bad.output


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EMFILE])
def test_doctor_tries_the_temporary_folder(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(doctor, "TemporaryFile", fail)
    arguments = ["doctor", "--device=cpu", f"--state={tmp_path}", f"--artifacts={artifacts}"]
    examined = CliRunner().invoke(commands.cli, arguments)
    assert examined.exit_code == 1
    assert f"PROBLEM temporary folder: none can be written to ({os.strerror(number)}); set TMPDIR" in examined.output


def test_doctor_checks_keys_the_lock_and_the_job_table(artifacts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    assert CliRunner().invoke(commands.cli, ["lock", f"--artifacts={folder}"]).exit_code == 0
    (folder / "bundles" / "places.safetensors").write_bytes(b"12345")
    (tmp_path / "table").touch()
    arguments = [
        "--device=cpu", f"--state={tmp_path}", f"--artifacts={folder}", "--api-keys=boss:admin:0123456789abcdef",
        "--host=0.0.0.0", f"--database=sqlite:///{tmp_path}/table/jobs.sqlite",
    ]  # fmt: skip
    examined = CliRunner().invoke(commands.cli, ["doctor", *arguments])
    assert examined.exit_code == 1
    assert "ok      address: 0.0.0.0, API keys: boss (admin)" in examined.output
    assert "ok      lock: bundles.lock lists 3 bundles" in examined.output
    assert "PROBLEM file places.safetensors" in examined.output
    assert "PROBLEM job table: the folder of the job table cannot be written" in examined.output
    assert "0123456789abcdef" not in examined.output


def test_lock_lists_the_locked_files_and_refuses_bad_bundles(artifacts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    locked = CliRunner().invoke(commands.cli, ["lock", f"--artifacts={folder}"])
    assert locked.exit_code == 0, locked.output
    assert [line.split("  ")[1] for line in locked.output.splitlines()] == [
        "columns-images.safetensors", "columns.safetensors", "places.safetensors",
    ]  # fmt: skip
    (folder / "bundles" / "bad.safetensors").write_bytes(b"12345")
    refused = CliRunner().invoke(commands.cli, ["lock", f"--artifacts={folder}"])
    assert (refused.exit_code, "bad.safetensors" in refused.output) == (1, True)
