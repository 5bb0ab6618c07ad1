"""The allocator keeps freed memory for the next tensor where that is asked for, and returns it where it is not."""

from __future__ import annotations

import subprocess
import sys

from tests.suite.needs import needs_glibc

PROBE = """
import resource, sys, torch
from recall_server.core.training.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)  # 64 MB; the heap settles after a few
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""

RELEASED = """
import torch
from pathlib import Path
from recall_server.core.training.allocator import keep_freed_memory, release_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
keep_freed_memory()
pieces = [torch.ones(2**18) for _ in range(200)]  # 1 MB each
del pieces[:-1]
before = resident()
assert release_freed_memory()
print(before - resident())
"""

THREADS = """
import sys, threading, torch
from pathlib import Path
from recall_server.core.training.allocator import release_freed_memory, use_one_arena
if sys.argv[1] == "one":
    assert use_one_arena()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
torch.ones(2**22)  # glibc takes sizes up to this one, 16 MB, from arenas from now on
everybody = threading.Barrier(8)
def work():
    pieces = [torch.ones(2**18) for _ in range(12)]  # 1 MB each
    everybody.wait()
    pieces.clear()
    everybody.wait()
before = resident()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
release_freed_memory()
print(resident() - before)
"""


@needs_glibc
def test_large_tensors_reuse_freed_pages() -> None:
    def page_faults(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROBE, mode], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert page_faults("kept") < page_faults("as usual") / 10


@needs_glibc
def test_kept_memory_can_be_released_below_a_live_allocation() -> None:
    done = subprocess.run([sys.executable, "-c", RELEASED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150 * 2**20


@needs_glibc
def test_memory_that_threads_have_freed_is_returned_if_they_share_an_arena() -> None:
    def kept(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", THREADS, mode], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert kept("one") < 16 * 2**20
    assert kept("as usual") > 64 * 2**20
