"""Runs every block of every page of the documentation, in order, and compares it with what the page shows."""

from __future__ import annotations

import ast
import subprocess
from concurrent.futures import Future
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.docs.conftest import Served
from tests.docs.pages import Block, blocks, executed, name_of
from tests.docs.runner import Page, SnippetFailed, agrees, commands, needs_server, run_page
from trainer.cli.app import app

MOST_NOT_EXECUTED = 21  # blocks that install something, use other machines (six of them), or take minutes


@pytest.mark.timeout(600)  # a busy machine is slow
@pytest.mark.parametrize("page", sorted(executed(), key=needs_server, reverse=True), ids=name_of)
def test_every_code_block_does_what_its_page_says(
    page: Path, folder: Path, served: Served, alone: dict[Path, Future[None]]
) -> None:
    if page in alone:  # running since the first page started
        alone[page].result()
    else:
        run_page(page, folder, served.url)


def test_blocks_that_are_not_executed_are_few_explained_and_parseable() -> None:
    left_out = [(page, block) for page in executed() for block in blocks(page) if block.not_executed is not None]
    assert len(left_out) <= MOST_NOT_EXECUTED
    for page, block in left_out:
        place = f"{name_of(page)}:{block.line}"
        assert block.not_executed, f"{place}: no reason is given"
        if block.language == "python":
            ast.parse(block.content)
        program = block.content
        if block.language == "console":
            program = "\n".join(command for command, _ in commands(block.content))
        if block.language in ("shell", "console"):
            read = subprocess.run(["bash", "-n"], input=program, capture_output=True, text=True, check=False)
            assert read.returncode == 0, f"{place}: {read.stderr}"


@pytest.mark.parametrize(
    ("language", "content", "said"),
    [
        ("shell", "false\n", "ended with status 1"),
        ("shell", "true | false | true\n", "ended with status 1"),
        ("shell", "curl -sf http://127.0.0.1:8000/nothing\n", "ended with status 22"),
        ("console", "$ echo one\ntwo\n", "said\none"),
        ("console", "$ false\n", "ended with status 1"),
        ("console", "echo one\n", r"begins with '\$ '"),
        ("python", "1 / 0\n", 'page.md", line 7'),
        ("pycon", ">>> 1 + 1\n3\n", "Expected"),
        ("json", "{'a': 1}\n", "this is no json"),
        ("yaml", "a: [\n", "this is no yaml"),
        ("fortran", "END\n", "knows no language"),
    ],
)
def test_a_block_with_wrong_output_is_found(
    language: str, content: str, said: str, tmp_path: Path, served: Served
) -> None:
    with Page("page.md", tmp_path, served.url) as running, pytest.raises(SnippetFailed, match=said) as failure:
        running.run(Block(language, content, line=7))
    assert str(failure.value).startswith("page.md:7: ")


def test_blocks_of_a_page_share_files_and_variables(tmp_path: Path, served: Served) -> None:
    with Page("page.md", tmp_path, served.url) as running:
        running.run(Block("shell", "echo 41 > number\n", line=1))
        running.run(Block("python", "from pathlib import Path\nn = int(Path('number').read_text())\n", line=2))
        running.run(Block("pycon", ">>> n + 1\n42\n", line=3))
        running.run(Block("shell", """echo '{"id": "abc"}'\n""", line=4))
        running.run(Block("console", "$ echo /classifier/ID/predict\n/classifier/abc/predict\n", line=5))


def test_the_loaded_trainer_of_the_pages_ends_as_the_real_one(venv: Path, tmp_path: Path) -> None:
    def ended(*arguments: str) -> tuple[int, str, str]:
        command = [venv / "bin" / "recall-trainer", *arguments]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout, ran.stderr

    status, said, complaint = ended("inspect", "nothing.safetensors")
    assert (status, said) == (2, "")
    assert "nothing.safetensors" in complaint
    assert ended("methods", "rtp") == (0, CliRunner().invoke(app, ["methods", "rtp"]).output, "")


def test_white_space_and_ellipses_in_output_are_ignored() -> None:
    assert agrees('{"a": 1, ...}\n', '{"a":1,"b":2}')
    assert agrees("...", "")
    assert not agrees('{"a": 1}', '{"a":1,"b":2}')


def test_a_block_without_a_language_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```\nwhat am I\n```\n")
    with pytest.raises(ValueError, match=r"page.md:3: this block has no language"):
        blocks(page)


def test_a_comment_applies_only_to_the_block_right_below(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- set-up\nmkdir a\n-->\n\n<!-- not executed: needs root -->\n\n```shell\nrm b\n```\n\n```shell\nls a\n```\n"
    )
    assert blocks(page) == [
        Block("shell", "mkdir a\n", 2),
        Block("shell", "rm b\n", 8, "needs root"),
        Block("shell", "ls a\n", 12),
    ]
