"""A server without HTTP, to be killed: it trains what is in the table of a state folder until its end.

python -m tests.recall_server.job_server STATE LEASE_SECONDS
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from recall_server.jobs.workers.local import LocalBackend
from tests.recall_server.job_examples import jobs_with

if __name__ == "__main__":
    jobs_with(LocalBackend(device="cpu", threads=1), Path(sys.argv[1]), lease_seconds=float(sys.argv[2]))
    threading.Event().wait()
