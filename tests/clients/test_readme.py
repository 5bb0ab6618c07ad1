"""Every line of the session in the client's README runs against the artifacts of this repository."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)  # it trains two classifiers
def test_the_session_of_the_readme_is_real(
    serve: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "clients/python/README.md").read_text(encoding="utf-8")
    assert "http://127.0.0.1:8000" in readme
    session = doctest.DocTestParser().get_doctest(
        readme.replace("http://127.0.0.1:8000", serve(ROOT / "artifacts")), {}, "README.md", "README.md", 0
    )
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session, out=said.append)
    assert tried > 20
    assert failed == 0, "".join(said)
