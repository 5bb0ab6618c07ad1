"""The command `federate`: one sentence for what was received and for what was written, or for what was refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from tests.trainer.cli.test_command_line import run
from tests.trainer.run.federated.client_examples import client_bundle, write_clients


def test_bundles_of_clients_become_one(tmp_path: Path) -> None:
    one, two = client_bundle({"ant": 30, "bee": 30}), client_bundle({"bee": 20, "cat": 30}, seed=1)
    folder, output = write_clients(tmp_path / "clients", one=one, two=two), tmp_path / "merged.safetensors"
    size = sum(path.stat().st_size for path in folder.iterdir())
    said = run("federate", str(folder), "--output", str(output))
    assert f"2 clients, {size:,} bytes received, weighted by their numbers of pictures" in said
    assert "3 labels" in said
    assert MemoryBundle.load(output).labels == ("ant", "bee", "cat")
    with pytest.raises(ValueError, match=r"merged\.safetensors already exists"):
        run("federate", str(folder), "--output", str(output))
    assert "3 labels" in run("federate", str(folder), "--output", str(output), "--overwrite")
