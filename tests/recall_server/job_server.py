"""A server without HTTP, to be killed: it trains what is in the table of a state folder until its end.

python -m tests.recall_server.job_server STATE LEASE_SECONDS [ADDRESS OF A RAY CLUSTER]
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from recall_server.jobs.workers.local import LocalBackend
from recall_server.jobs.workers.ray.backend import RayBackend, RayCluster
from tests.recall_server.job_examples import jobs_with

if __name__ == "__main__":
    state, lease, *cluster = sys.argv[1:]
    backend = RayBackend(RayCluster(*cluster)) if cluster else LocalBackend(device="cpu", threads=1)
    jobs_with(backend, Path(state), lease_seconds=float(lease))
    threading.Event().wait()
