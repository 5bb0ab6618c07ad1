"""Without onnxruntime, memories of pixels are served, and others are refused with what to install."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.recall_server.feature_examples import write_feature_artifacts

ROOT = Path(__file__).parents[3]
LOAD = """
import json, sys
from pathlib import Path
from recall_server.library import Library
if __name__ == "__main__":
    library = Library.load(Path(sys.argv[1]), device="cpu")
    print(json.dumps({"served": list(library.bundles), "rejected": [each.reason for each in library.rejected]}))
"""


def test_bundles_of_pixels_are_served_and_others_say_what_to_install(tmp_path: Path) -> None:
    folder = write_feature_artifacts(tmp_path / "artifacts", ("columns", {"left": "left", "right": "right"}))
    shutil.copy(ROOT / "artifacts" / "bundles" / "digits.safetensors", folder / "bundles")
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not installed')")
    (tmp_path / "load.py").write_text(LOAD)
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "clients" / "python")])
    found = subprocess.run(
        [sys.executable, str(tmp_path / "load.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(found.stdout)
    assert answer["served"] == ["digits"]
    assert "pip install 'memory-recall[cpu]'" in answer["rejected"][0]
