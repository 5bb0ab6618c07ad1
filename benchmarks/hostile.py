"""Attackers of every kind at once against one server, beside an honest caller: what does the honest one notice?

    python -m benchmarks.hostile [--quick] [--minutes 5] [--seed 0] [--attacks NAME,NAME]

The honest caller asks /health/live twenty times a second (benchmarks/liveness.py), recalls what is in no cache, and has
one classifier after another trained, before, during and for a minute after the attacks. The attackers have a key that
may train. They send what benchmarks/attacks.py lists, and put encoders into the artifacts folder that take all memory
or never end. Memory is the resident memory of the web process. Linux only. --quick: six seconds of attacks. The last
line is JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from benchmarks import attacks
from benchmarks.attacks import FORM, LONG, Target, form
from benchmarks.command import command_parser
from benchmarks.hostile_files import hungry_encoder, noise
from benchmarks.liveness import LivenessProbe, Probe
from benchmarks.running_server import ARTIFACTS, PATIENCE, BackgroundThreads, RunningServer, running_server
from recall_server.core.bundle.bundle import MemoryBundle

BUNDLES = ("digits", "fashion-mnist", "fashion-mnist-images")
CLASSES = 300
ENCODERS = "encoders"
EVERY_ATTACK = (*(attack.name for attack in attacks.ATTACKS), ENCODERS)


@dataclass
class Phase:
    """What the honest caller saw in one stretch of time."""

    began: float = field(default_factory=time.monotonic)
    ended: float = math.inf
    recalls: list[float] = field(default_factory=list)
    trained: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)

    def figures(self, probes: list[Probe]) -> dict[str, Any]:
        """Milliseconds of probes and recalls, and megabytes."""
        live, loop = [probe.seconds for probe in probes], [probe.loop for probe in probes]
        return {
            "live_p99_ms": _milliseconds(live, 0.99),
            "live_max_ms": _milliseconds(live, 1.0),
            "loop_p99_ms": _milliseconds(loop, 0.99),
            "loop_max_ms": _milliseconds(loop, 1.0),
            "process_p99_ms": _milliseconds([probe.process for probe in probes], 0.99),
            "recalls": len(self.recalls),
            "recall_p99_ms": _milliseconds(self.recalls, 0.99),
            "trained": self.trained,
            "errors": dict(self.errors),
            "most_megabytes": round(max(self.resident, default=0) / 2**20),
        }


class HonestCaller(BackgroundThreads):
    """Recalls, trains and measures in threads of its own, and adds what it sees to the present phase."""

    def __init__(self, server: RunningServer, key: str) -> None:
        self._server, self._headers = server, {"Authorization": f"Bearer {key}"}
        self.phase = Phase()
        work = (self._recall, self._train, self._measure)
        super().__init__(*(partial(self._repeat, each) for each in work))

    def watch(self, seconds: float) -> Phase:
        """A new phase of so long."""
        self.phase = phase = Phase()
        time.sleep(seconds)
        phase.ended = time.monotonic()
        return phase

    def _repeat(self, work: Callable[[httpx2.Client, int], None]) -> None:
        with httpx2.Client(base_url=self._server.url, headers=self._headers, timeout=PATIENCE) as client:
            number = 0
            while not self.stopped.is_set():
                number += 1
                try:
                    work(client, number)
                except (httpx2.HTTPError, KeyError) as error:
                    self.phase.errors[f"{work.__name__.lstrip('_')}: {type(error).__name__}"] += 1
                    self.stopped.wait(0.2)

    def _recall(self, client: httpx2.Client, number: int) -> None:
        phase, began = self.phase, time.perf_counter()
        client.get("/recall", params={"labels": "fashion-mnist:Coat", "seed": number}).raise_for_status()
        phase.recalls.append(time.perf_counter() - began)
        self.stopped.wait(0.2)

    def _train(self, client: httpx2.Client, number: int) -> None:
        body = {"labels": ["digits:3", "digits:8", "digits:0"], "seed": number}
        answer = client.post("/classifier", json=body, headers={"Prefer": "wait=30"})
        if answer.status_code in (429, 503):
            self.stopped.wait(1.0)
            return
        record = answer.raise_for_status().json()
        while not record["is_terminal"] and not self.stopped.is_set():
            record = client.get(record["links"]["self"], headers={"Prefer": "wait=5"}).raise_for_status().json()
        self.phase.trained += record["status"] == "succeeded"

    def _measure(self, _: httpx2.Client, __: int) -> None:
        self.phase.resident.append(self._server.resident_bytes())
        self.stopped.wait(0.5)


def _milliseconds(seconds: list[float], share: float) -> float | None:
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


@contextmanager
def artifacts() -> Iterator[Path]:
    """A copy of some bundles and encoders, which the attackers may write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundles").mkdir()
        for bundle in BUNDLES:
            shutil.copy(ARTIFACTS / "bundles" / f"{bundle}.safetensors", folder / "bundles")
        shutil.copytree(ARTIFACTS / "encoders", folder / "encoders")
        yield folder


def put_hostile_encoders(folder: Path) -> None:
    """Bundles whose encoders take all time, or all memory, when they are created or when they run."""
    bundle = MemoryBundle.load(folder / "bundles" / "fashion-mnist-images.safetensors")
    reference = bundle.manifest.query_encoder
    assert reference is not None
    for number, (numbers, repeats, constant) in enumerate(
        ((2**24, 5000, False), (2**24, 5000, True), (2**36, 1, False), (2**36, 1, True))
    ):
        data = hungry_encoder(numbers, repeats, constant=constant)
        (folder / "encoders" / f"hostile{number}.onnx").write_bytes(data)
        named = {"file": f"hostile{number}.onnx", "sha256": hashlib.sha256(data).hexdigest()}
        manifest = bundle.manifest.model_copy(
            update={"name": f"hostile{number}", "query_encoder": reference.model_copy(update=named)}
        )
        hostile = MemoryBundle(manifest=manifest, memory=bundle.memory, preprocessing=bundle.preprocessing)
        hostile.save(folder / "bundles" / f"hostile{number}.safetensors")


def target_of(server: RunningServer, key: str) -> Target:
    """The server as the attackers see it, with a classifier of many classes with long names, and a training."""
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE) as client:
        chance = random.Random(0)
        parts = form([(f"{number}{LONG[:40]}", "a.png", noise(chance)) for number in range(CLASSES)])
        many = client.post("/classifier?addressing=prototypes", content=parts, headers={"Content-Type": FORM})
        labels = [f"fashion-mnist:{name}" for name in ("Bag", "Coat", "Dress", "Shirt", "Sandal", "Trouser")]
        training = client.post("/classifier", json={"labels": labels})
    identifiers = [answer.raise_for_status().json()["id"] for answer in (training, many)]
    return Target(server.host, server.port, key, *identifiers)


def run(minutes: float, *, before: float, after: float, seed: int, names: list[str]) -> dict[str, Any]:
    """The figures of attacks of so many minutes, with so many seconds of peace before and after."""
    keys = {name: secrets.token_hex(16) for name in ("honest", "attacker")}
    named = ",".join(f"{name}:train:{key}" for name, key in keys.items())
    flags = ["--device=cpu", "--workers=1", "--worker-threads=1", "--cache-bytes=8000000"]
    with artifacts() as folder, running_server(*flags, f"--api-keys={named}", artifacts=folder) as server:
        target = target_of(server, keys["attacker"])
        with LivenessProbe(server) as probe, HonestCaller(server, keys["honest"]) as caller:
            quiet = caller.watch(before)
            ours, theirs = multiprocessing.get_context("spawn").Pipe()
            process = multiprocessing.get_context("spawn").Process(
                target=attacks.run, args=(theirs, target, 60 * minutes, seed, names), daemon=True
            )
            process.start()
            if ENCODERS in names:
                put_hostile_encoders(folder)
            attacked = caller.watch(60 * minutes)
            outcomes = json.loads(ours.recv_bytes()) if ours.poll(2 * PATIENCE) else {}
            process.join(PATIENCE)
            process.kill()
            calm = caller.watch(after)
        loaded = httpx2.get(f"{server.url}/bundles", headers={"Authorization": f"Bearer {keys['honest']}"}).json()
    return _figures(probe, (quiet, attacked, calm), outcomes) | {
        "bundles": [bundle["name"] for bundle in loaded["bundles"]],
        "exit_code_of_sigterm": server.process.returncode,
        "attack_minutes": minutes,
    }


def _figures(probe: LivenessProbe, phases: tuple[Phase, Phase, Phase], outcomes: dict[str, Any]) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    for answered, _ in outcomes.values():
        statuses.update(answered)
    began, ended = phases[0].resident[-5:], phases[-1].resident[-5:]
    return {
        name: phase.figures(probe.between(phase.began, phase.ended))
        for name, phase in zip(("before", "during", "after"), phases, strict=True)
    } | {
        "probes_without_an_answer": dict(Counter(probe.errors)),
        "memory_after_over_before": round(sum(ended) / len(ended) / (sum(began) / len(began)), 3),
        "requests_of_attackers": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "statuses_by_attack": {name: answered for name, (answered, _) in outcomes.items()},
        "server_errors": sum(count for status, count in statuses.items() if status.startswith("5")),
        "refusals_without_a_problem_document": {name: other for name, (_, other) in outcomes.items() if other},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--attacks", default=",".join(EVERY_ATTACK), help="only these")
    options = parser.parse_args(arguments)
    names = options.attacks.split(",")
    if options.quick:
        figures = run(0.1, before=2.0, after=2.0, seed=options.seed, names=names)
    else:
        figures = run(options.minutes, before=20.0, after=60.0, seed=options.seed, names=names)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
