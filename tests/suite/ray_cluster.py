"""The Ray cluster that tests share, and a way to make it lie."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.ray_cluster import ENVIRONMENT, LocalCluster


@contextlib.contextmanager
def claiming(cluster: LocalCluster, *, ray: str, python: str) -> Iterator[None]:
    """Let the cluster claim to be of these versions."""
    program = """
import json, sys
from ray._raylet import GcsClient
gcs, key, place = GcsClient(address=sys.argv[1]), b"CLUSTER_METADATA", b"cluster"
told = gcs.internal_kv_get(key, place)
print(told.decode())
gcs.internal_kv_put(key, (json.dumps(json.loads(told) | json.loads(sys.argv[2]))).encode(), True, place)
"""

    def claim(versions: str) -> str:
        command = [sys.executable, "-c", program, cluster.address, versions]
        environment = os.environ | ENVIRONMENT
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    before = claim(json.dumps({"ray_version": ray, "python_version": python}))
    try:
        yield
    finally:
        claim(before)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[LocalCluster]:
    """A cluster that tests share. A test that kills a node starts another."""
    cluster = LocalCluster()
    yield cluster
    cluster.close()
