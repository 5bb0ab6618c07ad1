"""The first moments of a process: closed standard streams, and temporary folders that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from recall_server.cli import start
from recall_server.cli.start import choose_temporary_folder, take_own_temporary_folder

OPEN_A_FILE = """
import os, sys
from recall_server.cli.start import open_standard_streams
open_standard_streams()
number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print("to standard output", flush=True)
print("to standard error", file=sys.stderr, flush=True)
assert number > 2, number
os.write(number, b"ours")
"""


@pytest.mark.process
@pytest.mark.parametrize("closed", [(2,), (1,), (0,), (0, 1), (1, 2), (0, 1, 2)])
def test_no_message_is_written_into_a_file_that_took_the_number_of_a_closed_stream(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    path = tmp_path / "file"
    shell = f'exec "$0" -c "$1" "$2" {" ".join(f"{number}>&-" for number in closed)}'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, OPEN_A_FILE, path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"ours"
    assert done.stdout == ("" if 1 in closed else "to standard output\n")
    assert done.stderr == ("" if 2 in closed else "to standard error\n")


@pytest.fixture
def candidates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for the test; the only temporary folder that Python looks at is the one in TMPDIR."""
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [os.environ["TMPDIR"]])
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(start, "SHARED_MEMORY", str(tmp_path / "memory"))
    monkeypatch.setenv("RECALL_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(start, "LONGEST", len(os.fsencode(tmp_path)) + 20)
    return tmp_path


UNUSABLE = {"missing": "nowhere", "a file": "file", "too long for a socket": "long" * 10}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("other", ["memory", "state"])
def test_another_folder_is_taken_for_one_that_cannot_be_used(
    candidates: Path, monkeypatch: pytest.MonkeyPatch, kind: str, other: str
) -> None:
    (candidates / "file").touch()
    (candidates / UNUSABLE["too long for a socket"]).mkdir()
    (candidates / other).mkdir()
    monkeypatch.setenv("TMPDIR", str(candidates / UNUSABLE[kind]))
    choose_temporary_folder()
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(candidates / other)


def test_a_usable_folder_stays(candidates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memory", "mine"):
        (candidates / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(candidates / "mine"))
    choose_temporary_folder()
    assert tempfile.gettempdir() == str(candidates / "mine")


def test_without_any_folder_the_first_use_fails(candidates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(candidates / "nowhere"))
    choose_temporary_folder()
    with pytest.raises(FileNotFoundError, match="No usable temporary directory"):
        tempfile.gettempdir()


def test_folders_of_killed_servers_are_deleted_and_those_in_use_are_not(
    candidates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = candidates / "t"
    dead, other = mine / f"{start.OWN}abcd_123", mine / f"{start.OWN}notes"
    for folder in (dead / "pymp-1", other):
        folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(mine))
    monkeypatch.setattr(start, "LONGEST", 1000)
    used = []
    for _ in range(2):
        monkeypatch.setenv("TMPDIR", str(mine))
        monkeypatch.setattr(tempfile, "tempdir", None)
        take_own_temporary_folder()
        used.append(Path(tempfile.gettempdir()))
    assert sorted(mine.iterdir()) == sorted([other, *used])
    for folder in used:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_temporary_folder_with_a_long_path_is_used_itself(candidates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(candidates))
    take_own_temporary_folder()
    assert tempfile.gettempdir() == str(candidates)
    assert not list(candidates.iterdir())
