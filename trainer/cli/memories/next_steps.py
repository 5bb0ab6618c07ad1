"""The commands that are printed after a memory was made. They work from every folder, beside every other memory."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import BUNDLES

USUAL_PORT: Final = 8000


def next_steps(bundle: MemoryBundle, output: Path, source: str) -> list[str]:
    """Lines with the commands that serve the bundle at `output`, use it, and improve it.

    Labels name their memory, since other memories may know them too.
    """
    output, port = output.resolve(), free_port()
    labels = [f"{bundle.manifest.name}:{label}" for label in bundle.labels[:2]]
    wish = shlex.quote(json.dumps({"labels": labels}, ensure_ascii=False))
    artifacts = output.parent.parent if output.parent.name == BUNDLES else None
    lines = []
    if artifacts is not None:
        lines.append(f"serve it:    {program('recall-server')} serve --artifacts {quoted(artifacts)} --port {port}")
        lines.append(f"use it:      curl -s http://127.0.0.1:{port}/classifier -H 'Prefer: wait=60' --json {wish}")
    if bundle.manifest.space == "pixels":
        data, file = shlex.quote(_source(source)), quoted(output)
        distill = f"{program('recall-trainer')} distill --dataset {data} --start {file} --output {file}"
        lines.append(f"improve it:  {distill} --minutes 30")
    return lines


def program(name: str) -> str:
    """How to call one of the project's programs: its name where the shell finds it, else its path."""
    own = Path(sys.executable).parent / name
    found = shutil.which(name)
    return name if found is not None and os.path.samefile(found, own) else quoted(own)


def quoted(path: Path) -> str:
    """The path as a word of a shell command."""
    return shlex.quote(str(path))


def free_port(usual: int = USUAL_PORT) -> int:
    """The usual port if nothing listens on it, else the first one after it where nothing does."""
    return next(port for port in range(usual, 2**16) if not _is_taken(port))


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _source(source: str) -> str:
    """A data set as it is named from another folder: the absolute path of a folder, or a known name as it is."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source
