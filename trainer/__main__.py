"""`python -m trainer` is `recall-trainer`."""

from __future__ import annotations

import os

# Threads that wait for each other shall sleep. By default they spin, which on a busy machine takes the time that the
# others need: eight times as long for a small memory. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from trainer.cli.app import main  # noqa: E402

if __name__ == "__main__":
    main()
