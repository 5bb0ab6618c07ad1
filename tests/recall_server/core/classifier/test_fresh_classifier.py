"""FreshClassifier: training, determinism, saving and loading, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier, learning_rate
from recall_server.core.encoders.weights import all_but_the_last
from recall_server.core.memory import LazyItems
from recall_server.core.networks import NetworkSpec, Parameters
from recall_server.core.preprocessing import AbstractPreprocessing, Standardise
from recall_server.core.training.minibatches import minibatches
from recall_server.core.training.retraining import Retraining
from recall_server.errors import NotFitted, TrainingFailed
from tests.tolerances import assert_close

LABELS = ("bear", "deer", "wolf")
SHAPE = (1, 8, 8)
TERMS = 9 * 8 * 8  # pixels of a minibatch: a gradient is their sum, the longest one
SMALL = NetworkSpec(filters=8, depth=2)
PREPROCESSING = Standardise(mean=torch.tensor([0.4]), deviation=torch.tensor([0.2]))


def make_retraining(**fields: object) -> Retraining:
    plain = {"network": SMALL, "steps": 12, "learning_rate": 0.02, "rows_per_class": 3}
    return Retraining.model_validate(plain | fields)


def make_pictures(per_class: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pixel-space pictures [3 * n, 1, 8, 8], bright above, bright at the left or bright in the middle, and which."""
    pixels = torch.full((3, per_class, *SHAPE), 0.2)
    pixels[0, :, :, :4] += 0.5
    pixels[1, :, :, :, :4] += 0.5
    pixels[2, :, :, 2:6, 2:6] += 0.5
    pixels += 0.1 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return pixels.flatten(0, 1), torch.arange(3).repeat_interleave(per_class)


def make_recalled(rows: int = 5, *, preprocessing: AbstractPreprocessing = PREPROCESSING) -> Tensor:
    """The same as a memory would recall it: [q, r, C, H, W] in model space."""
    return preprocessing.to_model(make_pictures(rows)[0]).view(3, rows, *SHAPE)


def make_classifier(*, seed: int = 0, **fields: object) -> FreshClassifier:
    return FreshClassifier(LABELS, SHAPE, PREPROCESSING, make_retraining(**fields), seed=seed)


def make_fitted(*, seed: int = 0, **fields: object) -> FreshClassifier:
    return make_classifier(seed=seed, **fields).fit(make_recalled(), torch.eye(3))


@pytest.mark.parametrize("decay", ["constant", "cosine"])
@pytest.mark.parametrize("augmentation", ["none", "flip+rotate"])
def test_a_classifier_recognises_pictures_that_it_has_never_seen(decay: str, augmentation: str) -> None:
    kinds = [0, 2] if augmentation != "none" else [0, 1, 2]  # a mirrored "left" is a "right", which has no name
    classifier = make_fitted(steps=60, decay=decay, augmentation=augmentation)
    pixels, truth = make_pictures(20, seed=9)
    wanted = torch.isin(truth, torch.tensor(kinds))
    guesses = classifier.predict(pixels[wanted])
    right = [guess == LABELS[kind] for guess, kind in zip(guesses, truth[wanted].tolist(), strict=True)]
    assert sum(right) > 0.9 * len(right)


def test_probabilities_are_of_every_label_in_order_and_sum_to_one() -> None:
    classifier = make_fitted()
    pixels, _ = make_pictures(100)
    probabilities = classifier.predict_probabilities(pixels)
    assert probabilities.shape == (300, 3)
    assert_close(probabilities.sum(1), torch.ones(300), terms=3)
    assert classifier.predict(pixels) == [LABELS[index] for index in probabilities.argmax(1).tolist()]
    one_by_one = torch.cat([classifier.predict_probabilities(picture[None]) for picture in pixels[:5]])
    assert_close(one_by_one, probabilities[:5], terms=TERMS, size=1)


def test_an_empty_batch_has_no_predictions() -> None:
    assert make_fitted().predict(torch.empty(0, *SHAPE)) == []


@pytest.mark.parametrize(("decay", "weight_decay"), [("constant", 0.0), ("cosine", 0.0), ("tenth", 0.1)])
def test_training_is_sgd_with_momentum_on_the_definition_of_the_network(decay: str, weight_decay: float) -> None:
    """The oracle: torch's own optimiser, on `network.logits`, over all rows at every step."""
    classifier = make_classifier(rows_per_class=99, decay=decay, weight_decay=weight_decay)
    images, targets = make_recalled(), torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
    parameters = classifier.network.initialise(torch.Generator().manual_seed(0))
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    optimiser = torch.optim.SGD(leaves.values(), lr=0.02, momentum=0.9, weight_decay=weight_decay)
    schedules = {
        "constant": torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1),
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 12),
        "tenth": torch.optim.lr_scheduler.StepLR(optimiser, 6),
    }
    for _ in range(12):
        optimiser.zero_grad()
        logits = classifier.network.logits(leaves, images.flatten(0, 1))
        loss = torch.nn.functional.cross_entropy(logits, targets.repeat_interleave(5, dim=0))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedules[decay].step()
    pixels, _ = make_pictures(10, seed=3)
    with torch.no_grad():
        expected = classifier.network.logits(leaves, PREPROCESSING.to_model(pixels)).softmax(1)
    found = classifier.fit(images, targets).predict_probabilities(pixels)
    assert_close(found, expected, terms=12 * TERMS, size=1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("asked", "drawn"), [(3, 3), (99, 5)])
def test_a_minibatch_holds_that_many_distinct_rows_of_every_query(asked: int, drawn: int, shared: bool) -> None:
    numbered = torch.arange(15.0).view(3, 5, 1, 1, 1).expand(3, 5, *SHAPE)  # row r of query q holds 5 q + r
    of_each = torch.eye(3).unsqueeze(1) if shared else numbered[:, :, 0, 0, :1].expand(3, 5, 3)
    batches = minibatches(numbered, of_each, make_retraining(rows_per_class=asked), torch.Generator().manual_seed(0))
    seen = set()
    for images, targets in itertools.islice(batches, 20):
        numbers = images[:, 0, 0, 0].int().tolist()
        assert [number // 5 for number in numbers] == [query for query in range(3) for _ in range(drawn)]
        assert len(set(numbers)) == 3 * drawn
        expected = torch.eye(3).repeat_interleave(drawn, dim=0) if shared else images[:, 0, 0, :1].expand(-1, 3)
        assert torch.equal(targets, expected), "each image keeps its own target"
        seen.add(tuple(numbers))
    assert len(seen) > 15


def test_rows_in_sequence_follow_each_other_and_begin_again_after_the_last() -> None:
    numbered = torch.arange(10.0).view(2, 5, 1, 1, 1).expand(2, 5, *SHAPE)
    schedule = make_retraining(rows_per_class=2, order="sequence")
    batches = minibatches(numbered, torch.eye(2).unsqueeze(1), schedule, torch.Generator())
    rows = [images[:, 0, 0, 0].int().tolist() for images, _ in itertools.islice(batches, 4)]
    assert rows == [[0, 1, 5, 6], [2, 3, 7, 8], [4, 0, 9, 5], [1, 2, 6, 7]]


def test_steps_have_rates_of_their_own_which_begin_again_and_decay() -> None:
    schedule = make_retraining(steps=6, rates=(0.3, 0.1))
    assert [learning_rate(schedule, done) for done in range(5)] == [0.3, 0.1, 0.3, 0.1, 0.3]
    tenth = make_retraining(steps=6, rates=(0.3, 0.1), decay="tenth")
    assert learning_rate(tenth, 4) == pytest.approx(0.03)


def test_a_squared_error_regresses_unbounded_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 4, *SHAPE, generator=generator)
    targets = (torch.eye(3) - 1 / 3).unsqueeze(1).repeat(1, 4, 1)
    schedule = make_retraining(steps=60, learning_rate=0.05).model_copy(update={"loss": "squared_error"})
    losses: list[float] = []
    classifier = FreshClassifier(["a", "b", "c"], SHAPE, PREPROCESSING, schedule)
    classifier.fit(images, targets, progress=lambda done, total, loss: losses.append(loss))
    assert losses[-1] < 0.1 * losses[0]
    pixels = PREPROCESSING.to_pixels(images.flatten(0, 1))
    assert classifier.predict(pixels) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4


def test_a_second_fit_starts_anew() -> None:
    pixels, _ = make_pictures(3)
    fresh = make_fitted()
    again = make_classifier().fit(torch.flip(make_recalled(), [0]), torch.eye(3)).fit(make_recalled(), torch.eye(3))
    assert torch.equal(fresh.predict_probabilities(pixels), again.predict_probabilities(pixels))


def test_fit_returns_itself_and_leaves_its_inputs_alone() -> None:
    images, targets, classifier = make_recalled(), torch.eye(3), make_classifier()
    copies = images.clone(), targets.clone()
    assert classifier.fit(images, targets) is classifier
    assert torch.equal(images, copies[0])
    assert torch.equal(targets, copies[1])


@pytest.mark.parametrize("augmentation", ["none", "flip+rotate"])
def test_lazy_images_train_the_same_classifier(augmentation: str) -> None:
    generator = torch.Generator().manual_seed(1)
    recalled = LazyItems(torch.randn(3, 20, 4, generator=generator), torch.randn(4, *SHAPE, generator=generator))
    made = make_classifier(augmentation=augmentation).fit(recalled.materialise(), torch.eye(3))
    lazily = make_classifier(augmentation=augmentation).fit(recalled, torch.eye(3))
    pixels, _ = make_pictures(20)
    found = lazily.predict_probabilities(pixels)
    assert_close(found, made.predict_probabilities(pixels), terms=TERMS, size=1)
    again = make_classifier(augmentation=augmentation).fit(recalled, torch.eye(3))
    assert torch.equal(again.predict_probabilities(pixels), found)


@pytest.mark.parametrize(
    ("coefficients", "images", "says"),
    [
        (torch.ones(3, 5, 2), torch.ones(2, 1, 8, 9), r"not \[3, 5, 1, 8, 9\]"),
        (torch.ones(3, 0, 2), torch.ones(2, *SHAPE), r"not \[3, 0, 1, 8, 8\]"),
        (torch.ones(3, 5, 2), torch.full((2, *SHAPE), float("inf")), "finite"),
    ],
)
def test_lazy_images_of_another_shape_are_refused(coefficients: Tensor, images: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_classifier().fit(LazyItems(coefficients, images), torch.eye(3))


def test_training_works_under_no_grad() -> None:
    pixels, _ = make_pictures(3)
    with torch.no_grad():
        inside = make_fitted()
    assert torch.equal(inside.predict_probabilities(pixels), make_fitted().predict_probabilities(pixels))


def test_progress_counts_every_step_and_the_loss_falls() -> None:
    reports: list[tuple[int, int, float]] = []
    make_classifier(steps=30).fit(make_recalled(), torch.eye(3), progress=lambda *report: reports.append(report))
    assert [done for done, _, _ in reports] == list(range(1, 31))
    assert {total for _, total, _ in reports} == {30}
    assert reports[-1][2] < 0.5 * reports[0][2]


def test_an_exception_of_the_progress_callback_ends_the_training() -> None:
    def cancel(done: int, total: int, loss: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    classifier = make_fitted()
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(make_recalled(), torch.eye(3), progress=cancel)
    with pytest.raises(NotFitted):
        classifier.predict(make_pictures(1)[0])


def test_training_that_diverges_fails_and_names_the_rate() -> None:
    classifier = make_classifier(learning_rate=10.0, momentum=0.99, steps=500)
    bottomless = -1e3 * torch.eye(3)  # a loss that falls for ever
    with pytest.raises(TrainingFailed, match=r"diverged after \d+ of 500 steps; use a learning rate below 10"):
        classifier.fit(make_recalled(), bottomless)
    with pytest.raises(NotFitted):
        classifier.export_onnx()


VERBS: list[Callable[[FreshClassifier], object]] = [
    lambda classifier: classifier.predict(make_pictures(1)[0]),
    lambda classifier: classifier.save("never written"),
    lambda classifier: classifier.export_onnx(),
]


@pytest.mark.parametrize("verb", VERBS, ids=["predict", "save", "export_onnx"])
def test_nothing_works_before_fit(verb: Callable[[FreshClassifier], object]) -> None:
    with pytest.raises(NotFitted, match="call fit first"):
        verb(make_classifier())


@pytest.mark.parametrize(
    ("labels", "shape", "says"),
    [
        (("bear",), SHAPE, "two or more distinct labels"),
        (("bear", "bear"), SHAPE, "two or more distinct labels"),
        (LABELS, (3, 8, 8), r"does not accept images of shape \[3, 8, 8\]"),
        (LABELS, (1, 3, 8), "too small"),
    ],
)
def test_arguments_that_do_not_match_are_refused_at_once(
    labels: tuple[str, ...], shape: tuple[int, int, int], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        FreshClassifier(labels, shape, PREPROCESSING, make_retraining())


def _learned() -> Parameters:
    return all_but_the_last(make_classifier().network.initialise(torch.Generator().manual_seed(5)))


def test_training_can_start_from_pretrained_layers() -> None:
    """The oracle: one step by hand from these layers and a last one of zeros."""
    classifier, learned = make_classifier(steps=1, rows_per_class=99, initial="encoder"), _learned()
    classifier.fit(make_recalled(), torch.eye(3), pretrained=learned)
    first = classifier.network.initialise_from(learned)
    leaves = {name: value.clone().requires_grad_() for name, value in first.items()}
    logits = classifier.network.logits(leaves, make_recalled().flatten(0, 1))
    torch.nn.functional.cross_entropy(logits, torch.eye(3).repeat_interleave(5, dim=0)).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        after = {name: leaf - 0.02 * (0 if leaf.grad is None else leaf.grad) for name, leaf in leaves.items()}
        pixels, _ = make_pictures(10, seed=3)
        expected = classifier.network.logits(after, PREPROCESSING.to_model(pixels)).softmax(1)
    assert_close(classifier.predict_probabilities(pixels), expected, terms=TERMS, size=1)
    assert all(torch.equal(learned[name], value) for name, value in _learned().items()), "it is copied, not trained"


@pytest.mark.parametrize(
    ("initial", "learned", "says"),
    [
        ("encoder", None, "starts from the encoder's layers, but no pretrained layers were given"),
        ("random", {}, "starts from random weights, but pretrained layers were given"),
        ("encoder", {}, "the pretrained layers do not match the network"),
    ],
)
def test_pretrained_layers_are_required_exactly_if_the_schedule_uses_them(
    initial: str, learned: Parameters | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make_classifier(initial=initial).fit(make_recalled(), torch.eye(3), pretrained=learned)


@pytest.mark.parametrize(
    ("images", "targets", "says"),
    [
        (torch.zeros(3, *SHAPE), torch.eye(3), r"must be \[queries, rows, 1, 8, 8\], not \[3, 1, 8, 8\]"),
        (torch.zeros(3, 5, 1, 8, 9), torch.eye(3), r"not \[3, 5, 1, 8, 9\]"),
        (torch.zeros(0, 5, *SHAPE), torch.zeros(0, 3), r"not \[0, 5, 1, 8, 8\]"),
        (torch.zeros(3, 5, *SHAPE), torch.eye(4), r"targets must be \[3, 5 or 1, 3\], not \[4, 1, 4\]"),
        (torch.full((3, 5, *SHAPE), float("nan")), torch.eye(3), "finite"),
    ],
)
def test_recalled_images_of_another_shape_are_refused(images: Tensor, targets: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_classifier().fit(images, targets)


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pictures must be \[N, 1, 8, 8\], not \[2, 3, 8, 8\]"):
        make_fitted().predict(torch.zeros(2, 3, 8, 8))
