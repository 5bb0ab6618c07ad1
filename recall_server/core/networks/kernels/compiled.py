"""Compile C++ sources for this machine on first use, and keep the libraries in a cache.

Libraries are called through ctypes, so no part of torch is compiled. They share the OpenMP threads of torch, which is
already loaded.

A cached library runs with the rights of this process. It is therefore loaded only if its folder and file belong to this
user and nobody else can write to them, and if its content has the digest in its name. A truncated library does not.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import signal
import stat
import subprocess  # noqa: S404  (the compiler)
import tempfile
from pathlib import Path

# Without traps and errno, comparisons and square roots can be vectorised. The order of sums is kept.
OPTIONS = "-std=c++17 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp -shared -fPIC"
# ATEN_CPU_CAPABILITY restricts the instructions of torch's own kernels; ours are compiled for the same ones.
INSTRUCTIONS = {"default": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
TIME_LIMIT = 120.0  # seconds for one call of the compiler

HEADERS = Path(__file__).parent  # include path of every source

logger = logging.getLogger(__name__)


@functools.cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """Return the library compiled from `source`; None, with the reason in the log, if it cannot be compiled."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        logger.warning("no C++ compiler found (CXX or g++): training steps run on torch's own operations, slower")
        return None
    try:
        return _cached(compiler, source)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("%s failed (%s): training steps run on torch's own operations, slower", compiler, _reason(error))
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it took longer than {TIME_LIMIT:g} seconds"
    return error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else str(error)


def _cached(compiler: str, source: Path) -> ctypes.CDLL:
    """Load the library from the cache, compiling it first if the cache has no sound one."""
    folder = _cache_folder()
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:  # a loaded library no longer needs its file
            return ctypes.CDLL(str(_compile(compiler, source, Path(temporary), "library")))
    name = f"{source.stem}-{_digest(_inputs(compiler, source))}"
    for library in sorted(folder.glob(f"{name}-*.so")):
        if _private(library) and library.stem == f"{name}-{_digest(library.read_bytes())}":
            return ctypes.CDLL(str(library))
        logger.warning("%s is damaged or not this user's alone: it is compiled anew", library)
        library.unlink(missing_ok=True)
    return ctypes.CDLL(str(_compile(compiler, source, folder, name)))


def _compile(compiler: str, source: Path, folder: Path, name: str) -> Path:
    """Compile `source` to `folder`/`name`-DIGEST.so, which appears there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        built = Path(temporary) / "library.so"
        _run([compiler, *_options(), f"-I{HEADERS}", str(source), "-o", str(built)])
        built.chmod(0o600)
        return built.replace(folder / f"{name}-{_digest(built.read_bytes())}.so")


def _inputs(compiler: str, source: Path) -> bytes:
    """Everything that a library depends on: sources, options, compiler and processor."""
    texts = [path.read_text() for path in (source, *sorted(HEADERS.glob("*.hpp")))]
    return "\0".join((*texts, *_options(), compiler, _run([compiler, "--version"]), _processor_flags())).encode()


def _options() -> list[str]:
    capability = os.environ.get("ATEN_CPU_CAPABILITY", "") if platform.machine() in ("x86_64", "AMD64") else ""
    return [*OPTIONS.split(), f"-march={INSTRUCTIONS.get(capability, 'native')}"]


def _processor_flags() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    return next((line for line in lines if line.startswith("flags")), "")


def _run(command: list[str]) -> str:
    """Return the output of a command; past the time limit, kill it with the processes that it started."""
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=TIME_LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    return output


def _cache_folder() -> Path | None:
    """The folder that libraries are kept in; None, with the reason in the log, if there is none to be trusted."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "recall-kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without HOME and without an entry in passwd
        logger.warning("no cache for compiled kernels (%s): each process compiles its own", error)
        return None
    if _private(folder):
        return folder
    logger.warning("%s is not this user's alone (chmod 700, chown): each process compiles its own kernels", folder)
    return None


def _private(path: Path) -> bool:
    """Whether only this user can write to `path`, which is no symbolic link."""
    status = path.lstat()
    return (
        not stat.S_ISLNK(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
