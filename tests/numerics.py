"""Run the numerical tests once for each instruction set of this processor: python -m tests.numerics [pytest's options].

Torch and the project's own kernels are restricted to the baseline of x86-64, to AVX2 and to AVX-512, as far as the
processor has them, by ATEN_CPU_CAPABILITY. Sums come out in another order each time, and the tests must still pass.
Numerical tests are those in files that use `tests.tolerances`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CAPABILITIES = ("default", "avx2", "avx512")
TESTS = Path(__file__).parent


def capabilities() -> tuple[str, ...]:
    """Those of this processor, as torch sees it; only the default on one that is not of the x86 family."""
    environment = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    program = "import torch; print(torch.backends.cpu.get_cpu_capability().lower())"
    asked = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    best = asked.stdout.strip()
    return CAPABILITIES[: CAPABILITIES.index(best) + 1] if best in CAPABILITIES else CAPABILITIES[:1]


def files() -> list[str]:
    return sorted(str(path) for path in TESTS.rglob("test_*.py") if "tests.tolerances" in path.read_text())


def main(options: list[str]) -> int:
    failed = []
    for capability in capabilities():
        print(f"== ATEN_CPU_CAPABILITY={capability}", flush=True)  # noqa: T201
        command = [sys.executable, "-m", "pytest", *options, *files()]
        if subprocess.run(command, env=os.environ | {"ATEN_CPU_CAPABILITY": capability}).returncode:
            failed.append(capability)
    print(f"failed with {', '.join(failed)}" if failed else f"passed with {', '.join(capabilities())}")  # noqa: T201
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
