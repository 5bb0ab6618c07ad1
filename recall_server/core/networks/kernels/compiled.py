"""C++ sources, compiled for this machine when they are first used and kept for the next time.

A library is called through ctypes, so nothing of torch is compiled, and it shares the threads of torch's OpenMP, which
is loaded already.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess  # noqa: S404  (the compiler)
import tempfile
from pathlib import Path

# No trapping or errno: comparisons and square roots may be vectorised. Sums keep their order.
OPTIONS = "-std=c++17 -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp -shared -fPIC"

HEADERS = Path(__file__).parent  # what every source may include

logger = logging.getLogger(__name__)


@functools.cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The library made of `source`; None, with a logged reason, where it cannot be compiled."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        logger.warning("no C++ compiler found (CXX or g++): training steps run on torch's own operations, slower")
        return None
    try:
        return ctypes.CDLL(str(_compile(compiler, source)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else error
        logger.warning("%s failed (%s): training steps run on torch's own operations, slower", compiler, reason)
        return None


def _compile(compiler: str, source: Path) -> Path:
    """The shared library, named by all that it is made from; written whole or not at all."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    cpu = Path("/proc/cpuinfo")
    flags = (
        next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "") if cpu.exists() else ""
    )
    texts = [path.read_text() for path in (source, *sorted(HEADERS.glob("*.hpp")))]
    made_from = "\0".join((*texts, OPTIONS, compiler, version, flags))
    library = _cache() / f"{source.stem}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            command = [compiler, *OPTIONS.split(), f"-I{HEADERS}", str(source), "-o", str(built)]
            subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            built.replace(library)
    return library


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "recall-kernels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
