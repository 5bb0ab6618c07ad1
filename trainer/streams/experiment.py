"""An experiment on a stream: compress-then-recall, baselines with the same memory, and the upper bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.errors import InvalidDataset
from trainer.methods.specs.spec import flattened
from trainer.streams.bundles import bundle_path, task_bundle
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.learners.coreset import Coreset
from trainer.streams.learners.joint import joint_accuracies
from trainer.streams.learners.learner import AbstractStreamLearner, Allowance
from trainer.streams.learners.shared_network import OnlineNetwork, Updates
from trainer.streams.methods import StreamMethod
from trainer.streams.run import StreamRun
from trainer.streams.sources.folder import FolderStream
from trainer.streams.sources.named import STREAMS, named_stream
from trainer.streams.sources.task import CPU, MINIBATCH, AbstractStream, StreamTask, TaskHeader

MARKS = 10  # how often in a stream all tasks so far are tested
MEMORY = 10  # real images per task, by default (paper, Table 5)
JOINT_EPOCHS = 10
ONLINE, REPLAY, JOINT = Updates(0.003, 1, 0), Updates(0.1, 4, 50), Updates(0.1, 1, 0)  # chosen on validation pictures


@dataclass(frozen=True)
class StreamExperiment:
    """A stream and how it is learned. `source` is the name of a stream or a folder; `memory` is in real images."""

    source: str
    method: StreamMethod
    seed: int
    memory: int | None = None
    tasks: int | None = None
    samples: int | None = None
    image_size: int | None = None
    follow: bool = False
    validate: bool = False
    baselines: bool = True
    device: torch.device = CPU  # where networks are trained

    def stream(self) -> AbstractStream:
        """The stream of `source`. Raises InvalidDataset for an unknown one, or for options that it does not take."""
        if self.source in STREAMS:
            if self.follow or self.image_size:
                raise InvalidDataset(
                    f"--follow and --image-size are for folders of tasks, not for the named stream {self.source}"
                )
            return named_stream(
                self.source, seed=self.seed, tasks=self.tasks, samples=self.samples, validate=self.validate
            )
        if self.samples:
            raise InvalidDataset("--samples is for named streams; the tasks of a folder are always used completely")
        return FolderStream(
            Path(self.source),
            seed=self.seed,
            tasks=self.tasks,
            image_size=self.image_size,
            follow=self.follow,
            validate=self.validate,
        )

    def capacity(self, stream: AbstractStream, header: TaskHeader) -> int:
        """The size of the buffer in numbers; the tasks of a shortened stream keep their share."""
        if self.memory is not None:
            return self.memory * header.image_numbers
        spec = STREAMS.get(self.source)
        each = spec.memory / spec.tasks if spec else MEMORY
        return int(each * stream.tasks) * header.image_numbers

    def learners(self, stream: AbstractStream, first: StreamTask) -> list[AbstractStreamLearner]:
        """All learners, compress-then-recall first. Raises ValueError for a buffer that is too small."""
        header, prepared = first.header, preprocessing(self.method, first)
        allowance = Allowance(self.capacity(stream, header), stream.tasks, self.seed, self.device)
        recall = CompressThenRecall(self.method, prepared, allowance)
        recall.check(header)
        if not self.baselines or self.follow:
            return [recall]
        return [
            recall,
            self._network(stream, first, "online SGD", ONLINE),
            self._network(stream, first, "experience replay", REPLAY, allowance.capacity),
            Coreset(self.method.retraining, prepared, allowance),
        ]

    def _network(  # noqa: PLR0917
        self, stream: AbstractStream, first: StreamTask, name: str, updates: Updates, capacity: int = 0
    ) -> OnlineNetwork:
        return OnlineNetwork(
            name,
            self.method.objective.network,
            stream.classes(),
            first.header.image_shape,
            preprocessing(self.method, first),
            updates,
            Allowance(capacity, stream.tasks, self.seed, self.device),
        )

    def joint(self, stream: AbstractStream, *, stopped: Callable[[], bool] = lambda: False) -> list[float]:
        """Accuracy of joint training on every task. Raises Interrupted if `stopped` returns True before the end."""
        first = stream.task(0)
        assert first is not None, "a stream has a task"
        network = self._network(stream, first, "joint training", JOINT)
        return joint_accuracies(stream, network, epochs=JOINT_EPOCHS, seed=self.seed, stopped=stopped)

    def description(self, stream: AbstractStream, header: TaskHeader) -> dict[str, Any]:
        """The settings that a checkpoint must agree with."""
        return flattened(self.method, lambda name: name == "citation") | {
            "stream": stream.name,
            "tasks": stream.tasks,
            "samples": self.samples,
            "seed": self.seed,
            "memory": self.capacity(stream, header),
            "baselines": self.baselines,
            "judged on": "validation" if self.validate else "test",
        }


def preprocessing(method: StreamMethod, first: StreamTask) -> AbstractPreprocessing:
    """Fitted to the first minibatch of the first task; later data are not known in advance."""
    return method.preprocessing.fit(first.train.select(torch.arange(min(MINIBATCH, len(first.train)))), None)


def judge_every(stream: AbstractStream) -> int:
    """The number of tasks after which all tasks so far are tested."""
    return max(1, stream.tasks // MARKS)


def prepare(
    experiment: StreamExperiment,
    *,
    bundles: Path | None = None,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = lambda sentence: None,
    stopped: Callable[[], bool] = lambda: False,
) -> StreamRun:
    """A run that has not started; waits for the first task. Finished tasks are written to the folder `bundles`."""
    stream = experiment.stream()
    first = stream.await_task(0, stopped=stopped)
    if first is None:
        raise InvalidDataset(f"{stream.name} ended before its first task")
    learners = experiment.learners(stream, first)
    recall = learners[0]
    assert isinstance(recall, CompressThenRecall), "compress-then-recall is the first learner"

    def publish(number: int) -> None:
        if bundles is not None:
            seconds = run.seconds.spent[recall.name]
            bundle = task_bundle(recall, number, stream=stream.name, licence=stream.licence, seconds=seconds)
            bundle.save(bundle_path(bundles, bundle))

    run = StreamRun(
        stream,
        learners,
        description=experiment.description(stream, first.header),
        judge_every=judge_every(stream),
        checkpoint=checkpoint,
        finished=publish,
        report=report,
    )
    return run
