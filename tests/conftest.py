"""One thread a process: the tensors here are tiny, and threads that wait for each other cost more than they bring."""

from __future__ import annotations

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)
