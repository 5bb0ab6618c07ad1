"""The real command in a process of its own: everything a person does with the server, once, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnxruntime
import pytest
import safetensors.torch
from typer.testing import CliRunner

from benchmarks.process_tree import LISTED, descendants, is_running
from recall_server.cli import commands
from recall_server.cli.commands import cli
from tests.recall_server.api.requests import parts
from tests.recall_server.serving_examples import RETRAINING, label_bundle, picture, write_artifacts
from tests.suite.waiting import PATIENCE, eventually

pytestmark = pytest.mark.process

WAIT = {"Prefer": "wait=30"}


class RunningServer:
    """`recall-server serve` on a free port, its log, and a client for it."""

    def __init__(self, artifacts: Path, folder: Path, **environment: str) -> None:
        self.log = folder / "server.log"
        command = [sys.executable, "-m", "recall_server", "serve", "--port=0", "--worker-threads=1"]
        environment |= os.environ | {"RECALL_ARTIFACTS": str(artifacts), "RECALL_STATE": str(folder / "state")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        self.client = httpx2.Client(base_url=self._address(), timeout=PATIENCE)

    def _address(self) -> str:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and self.process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text())
            if found:
                return found.group()
            time.sleep(0.05)
        raise AssertionError(f"the server does not start: {self.log.read_text()}")

    def wait_until_ready(self) -> dict[str, Any]:
        limit = time.monotonic() + PATIENCE
        while (answer := self.client.get("/health/ready")).status_code != 200:
            assert time.monotonic() < limit, answer.text
            time.sleep(0.05)
        body: dict[str, Any] = answer.json()
        return body

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


@contextmanager
def running(artifacts: Path, folder: Path, **environment: str) -> Iterator[RunningServer]:
    server = RunningServer(artifacts, folder, **environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(PATIENCE)
        server.client.close()


@pytest.fixture(scope="module")
def slow_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundles, one whose training never ends, and one that must not be loaded."""
    folder = write_artifacts(tmp_path_factory.mktemp("slow"))
    bundle = label_bundle(
        "slow", ("up", "down", "strange"), retraining=RETRAINING.model_copy(update={"steps": 100_000})
    )
    bundle.save(folder / "bundles" / "slow.safetensors")
    (folder / "bundles" / "hostile.safetensors").write_bytes(b"\xff" * 100)
    return folder


class Collector(ThreadingHTTPServer):
    """Stands in for an OpenTelemetry collector: keeps what is sent to /v1/traces."""

    def __init__(self) -> None:
        self.traces = traces = list[bytes]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    traces.append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield collector
        collector.shutdown()


@pytest.fixture(scope="module")
def server(
    slow_artifacts: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "RECALL_LOG_FORMAT": "json",
    }
    with running(slow_artifacts, tmp_path_factory.mktemp("server"), **telemetry) as server:
        server.wait_until_ready()
        yield server


def right_of_40(server: RunningServer, links: dict[str, str], **names: str) -> int:
    """How many of 40 pictures that were never sent before are told apart."""
    right = 0
    for column, name in names.items():
        answer = server.client.post(links["predict"], files=parts(column, count=20, seed=5000, name="images"))
        right += sum(each["label"] == name for each in answer.json()["predictions"])
    return right


def test_the_server_is_ready_with_the_bundles_that_could_be_loaded(server: RunningServer) -> None:
    body = server.wait_until_ready()
    assert body["bundles"] == ["columns", "columns-images", "places", "slow"]
    (rejected,) = body["rejected"]
    assert rejected["file"] == "hostile.safetensors"
    assert "bundle rejected: hostile.safetensors" in server.log.read_text()


def test_logs_are_json_with_the_request_id(server: RunningServer) -> None:
    sent = {"X-Request-ID": "order-77", "Authorization": "Bearer 0123456789abcdef"}
    assert server.client.get("/recall?labels=left&seed=77", headers=sent).headers["x-request-id"] == "order-77"
    limit = time.monotonic() + PATIENCE
    while not (found := [line for line in logged(server) if line.get("request_id") == "order-77"]):
        assert time.monotonic() < limit, "it is logged once the answer has gone"
        time.sleep(0.02)
    (line,) = found
    assert (line["event"], line["route"], line["status"]) == ("request", "/recall", "200")
    assert "0123456789abcdef" not in server.log.read_text()


def logged(server: RunningServer) -> list[dict[str, Any]]:
    """All lines that are whole."""
    return [json.loads(line) for line in server.log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_traces_are_sent_to_a_collector_if_the_environment_names_one(
    server: RunningServer, collector: Collector
) -> None:
    server.client.get("/recall?labels=left&seed=5")
    limit = time.monotonic() + PATIENCE
    while not any(b"/recall" in trace for trace in collector.traces):
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_real_server_exports_metrics(server: RunningServer) -> None:
    text = server.client.get("/metrics").text
    assert 'recall_workers{device="cpu",node="",state="ready"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert 'route="/recall"' in text


def test_labels_are_recalled_trained_and_predicted(server: RunningServer) -> None:
    recalled = server.client.get("/recall", params={"labels": "left,right", "format": "safetensors"})
    assert safetensors.torch.load(recalled.content)["images"].shape == (12, 1, 8, 8)
    answer = server.client.post("/classifier", json={"labels": ["left", "right"]}, headers=WAIT)
    assert answer.status_code == 201, answer.text
    links = answer.json()["links"]
    assert right_of_40(server, links, left="left", right="right") >= 38
    session = onnxruntime.InferenceSession(server.client.get(links["download"] + "?format=onnx").content)
    (probabilities,) = session.run(None, {"images": picture("left", 7)[None, None].astype(np.float32) / 255})
    assert probabilities[0, 0] > 0.5


def test_a_few_pictures_become_a_classifier(server: RunningServer) -> None:
    answer = server.client.post("/classifier", files=parts("left", "right", count=3), headers=WAIT)
    assert answer.status_code == 201, answer.text
    assert right_of_40(server, answer.json()["links"], left="left", right="right") >= 38


def test_training_does_not_block_requests(server: RunningServer) -> None:
    endless = server.client.post("/classifier", json={"labels": ["up", "down"]}).json()
    while server.client.get(endless["links"]["self"]).json()["progress"] is None:
        time.sleep(0.02)
    times = []
    for _ in range(50):
        began = time.monotonic()
        assert server.client.get("/recall?labels=left&per_label=1").status_code == 200
        times.append(time.monotonic() - began)
    assert server.client.get(endless["links"]["self"]).json()["status"] == "running"
    assert server.client.post(endless["links"]["cancel"]).json()["status"] == "cancelled"
    assert sorted(times)[25] < 0.5


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_stopping_during_a_training_answers_everyone_and_leaves_no_process(
    slow_artifacts: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    with running(slow_artifacts, tmp_path) as server:
        server.wait_until_ready()
        finished = server.client.post("/classifier", json={"labels": ["left", "right"]}, headers=WAIT).json()
        endless = server.client.post("/classifier", json={"labels": ["up", "down"]}).json()
        while server.client.get(endless["links"]["self"]).json()["status"] != "running":
            time.sleep(0.02)
        started = descendants(server.process.pid)
        assert started or not LISTED
        stopped = threading.Event()
        with ThreadPoolExecutor() as pool:
            load = [pool.submit(recall_until, stopped, server.client, seed) for seed in range(3)]
            waiting = pool.submit(server.client.get, endless["links"]["self"], headers=WAIT)
            time.sleep(0.3)
            began = time.monotonic()
            assert server.end(stop) == 0
            assert time.monotonic() - began < 15
            assert waiting.result().json()["status"] == "running"
            stopped.set()
            assert {status for each in load for status in each.result()} == {200}
        wait_until_gone(started)
        assert "Traceback" not in server.log.read_text()
    with running(slow_artifacts, tmp_path) as server:
        begun_again, kept = server.client.get("/classifier").json()["classifiers"]
        assert (begun_again["id"], kept) == (endless["id"], finished)
        assert begun_again["status"] in ("queued", "running")
        assert right_of_40(server, finished["links"], left="left", right="right") >= 38


def test_a_killed_server_leaves_no_process_behind(slow_artifacts: Path, tmp_path: Path) -> None:
    with running(slow_artifacts, tmp_path) as server:
        server.wait_until_ready()
        endless = server.client.post("/classifier", json={"labels": ["up", "down"]}).json()
        while server.client.get(endless["links"]["self"]).json()["progress"] is None:
            time.sleep(0.02)
        started = descendants(server.process.pid)
        server.end(signal.SIGKILL)
        wait_until_gone(started)


def test_a_server_killed_while_loading_leaves_no_process_behind(slow_artifacts: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recall_server", "serve", "--port=0", f"--artifacts={slow_artifacts}"]
    starting = subprocess.Popen([*command, f"--state={tmp_path}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + PATIENCE
    while not (started := descendants(starting.pid)):
        assert time.monotonic() < limit or not LISTED
        time.sleep(0.01)
    starting.kill()
    starting.wait(PATIENCE)
    wait_until_gone(started)


def recall_until(stopped: threading.Event, client: httpx2.Client, seed: int) -> set[int]:
    """The statuses of recalls that were answered before the server was gone."""
    statuses = set()
    while not stopped.is_set():
        try:
            statuses.add(client.get(f"/recall?labels=left&per_label=2&seed={seed}").status_code)
        except httpx2.TransportError:
            break
    return statuses


def test_without_a_key_the_server_listens_on_this_machine_only(slow_artifacts: Path, tmp_path: Path) -> None:
    flags = [f"--artifacts={slow_artifacts}", f"--state={tmp_path}", "--host=0.0.0.0", "--port=0"]
    refused = CliRunner().invoke(cli, ["serve", *flags])
    assert refused.exit_code == 1
    assert "error: 0.0.0.0 can be reached from other machines, and there are no API keys" in refused.output


def test_a_taken_port_is_reported_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = CliRunner().invoke(cli, ["serve", f"--port={port}", f"--state={tmp_path}/s"])
    assert refused.exit_code == 1
    assert f"port {port} of 127.0.0.1 cannot be used (Address already in use)" in refused.output
    assert f"such as --port {port + 1}" in refused.output
    assert not (tmp_path / "s").exists()


def test_a_host_of_another_machine_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(cli, ["serve", f"--artifacts={tmp_path}", "--host=nowhere.invalid", "--allow-public"])
    assert refused.exit_code == 1
    assert "the host nowhere.invalid is not known" in refused.output


@pytest.mark.parametrize("there", [True, False])
def test_without_a_folder_of_artifacts_the_example_of_an_installed_package_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECALL_ARTIFACTS", raising=False)
    example = tmp_path / "package" / "example_artifacts"
    label_bundle("example", ("a", "b", "c")).save(example / "bundles" / "example.safetensors")
    monkeypatch.setattr(commands, "EXAMPLE", example)
    if there:
        label_bundle("own", ("a", "b", "c")).save(tmp_path / "artifacts" / "bundles" / "own.safetensors")
    said = CliRunner().invoke(cli, ["doctor", f"--state={tmp_path}/state"]).output
    assert ("bundle own" if there else "bundle example") in said
    assert ("bundle example" if there else "bundle own") not in said


def wait_until_gone(processes: list[int]) -> None:
    """Python's own resource tracker takes a moment to notice that it is alone."""
    eventually(lambda: not any(map(is_running, processes)), f"none of {processes} is running")


def test_an_unwritable_state_folder_ends_in_one_line_and_an_exit_code(slow_artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    command = [sys.executable, "-m", "recall_server", "serve", f"--artifacts={slow_artifacts}", "--port=0"]
    ended = subprocess.run(
        [*command, f"--state={tmp_path / 'state'}"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode not in (0, None)
    assert re.search("error: the .* cannot be written: (Not a directory|File exists)", ended.stderr)
    assert "Traceback" not in ended.stderr


NEVER_STOPS = """
import time
from recall_server.cli import commands
from recall_server.service import RecallService

commands.SECONDS_TO_STOP = 1
RecallService.stop = lambda service: time.sleep(3600)
commands.cli()
"""


def test_a_server_that_cannot_stop_is_ended_with_its_stack_traces(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NEVER_STOPS, "serve", "--port=0", "--drain-seconds=1", f"--state={tmp_path}"]
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen([*command, f"--artifacts={tmp_path}"], stderr=stream, stdout=stream)
    try:
        limit = time.monotonic() + PATIENCE
        while "http://127.0.0.1:" not in log.read_text() and time.monotonic() < limit:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 1
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert "Timeout" in log.read_text()
    assert "time.sleep" in log.read_text() or "Thread" in log.read_text()
