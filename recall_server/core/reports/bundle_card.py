"""The card of a memory: its classes, its data, its accuracy, how it was made, and what not to use it for.

Everything in it comes from the manifest. The card includes all that a person should know before relying on a classifier
made from the memory.
"""

from __future__ import annotations

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Accuracy, Manifest, MeasuredAccuracy
from recall_server.core.classifier.expected_accuracy import counted_row
from recall_server.core.reports.markdown import bullets, document, escape, escape_all, facts, percent, table
from recall_server.core.reports.stated_accuracy import stated_accuracy
from recall_server.core.training.retraining import Retraining

MOST_PAIRS = 5  # confused pairs of labels that are listed
PROTOCOLS = {
    "paper": "each trained for 300 epochs at a constant learning rate of 0.01, as in the literature",
    "bundle": "each trained by the memory's own schedule, which is also used for the classifiers that you request",
}
DECAYS = {
    "constant": "constant",
    "cosine": "falling to zero as a cosine",
    "tenth": "falling to a tenth after half of the steps",
}
INITIAL_WEIGHTS = {"random": "random weights", "encoder": "the layers of the query encoder"}
LIMITS = (
    "Anything but these {count} classes: a classifier made from this memory assigns every picture to one of its "
    "classes, however different the picture is.",
    "Pictures of another kind than those it was made from (another camera, background, style or size): the "
    "measurements above do not cover them. Test on pictures of your own first.",
    "Decisions about people, their health, their safety or their rights.",
    "{secrecy}",
    "Correcting flaws of the data: whatever the original pictures lack or misrepresent, this memory lacks and "
    "misrepresents too.",
)
NO_PROMISE = (
    "Keeping the original pictures secret: recalled pictures are synthetic, but they are computed from the original "
    "data and may still show what it contained, including a rare picture or a face. There is no privacy guarantee."
)
SECRET_NOISE = "of the operating system"  # in manifests of private memories
WITHIN = (
    "It hides neither the names of the classes nor anything about the pictures that the accuracy above was measured on."
)


def bundle_card(bundle: MemoryBundle) -> str:
    """The card in Markdown. The digest and the file size are left out for a bundle that has no file yet."""
    manifest = bundle.manifest
    return document(
        f"Memory {escape(manifest.name)}",
        ("", [_introduction(manifest)]),
        ("What it knows", [_knowledge(manifest)]),
        ("What it was made from", [_data(manifest)]),
        ("Its size", [_size(bundle)]),
        ("How good it is", _accuracy(manifest)),
        ("How it was made", [_making(manifest), "Classifiers are trained from it by this schedule:"]),
        ("", [schedule(manifest.retraining)]),
        ("What not to use it for", [_limits(manifest)]),
        ("Licence", [licence(manifest)]),
    )


def _limits(manifest: Manifest) -> str:
    promise = _promise(manifest)
    secrecy = NO_PROMISE if promise is None else f"Keeping secret what many pictures share: {promise}. {WITHIN}"
    return bullets(LIMITS).format(count=len(manifest.labels), secrecy=secrecy)


def _promise(manifest: Manifest) -> str | None:
    """The differential privacy that the manifest claims, as a clause; None for none, or for noise of a known seed."""
    settings = manifest.provenance.hyper_parameters
    if not {"epsilon", "delta", "clip", "privacy_unit"} <= settings.keys() or settings.get("noise") != SECRET_NOISE:
        return None
    said = {name: escape(str(value)) for name, value in settings.items()}
    return (
        f"differential privacy with epsilon {said['epsilon']} and delta {said['delta']} hides {said['privacy_unit']}, "
        f"by vectors of length {said['clip']} at most and noise {SECRET_NOISE}"
    )


def _robustness(manifest: Manifest) -> str | None:
    """The attack that the memory was distilled with, as a clause; None for none."""
    settings = manifest.provenance.hyper_parameters
    if settings.get("objective.attack.kind") != "pgd":
        return None
    said = {name: escape(str(settings.get(f"objective.attack.{name}"))) for name in ("epsilon", "steps")}
    return (
        f"distilled for networks that withstand small changes of pictures, with an attack (PGD, {said['steps']} steps) "
        f"within an epsilon of {said['epsilon']} of the range of a pixel; accuracy on validation pictures is under it"
    )


def schedule(retraining: Retraining) -> str:
    """A table of how a fresh classifier is trained."""
    decay = DECAYS[retraining.decay]
    weight_decay = f", weight decay {retraining.weight_decay:g}" if retraining.weight_decay else ""
    return facts(
        [
            ("network", f"`{retraining.network}`, from {INITIAL_WEIGHTS[retraining.initial]}"),
            ("training", f"{retraining.steps} steps of SGD, momentum {retraining.momentum:g}{weight_decay}"),
            ("learning rate", f"{retraining.learning_rate:g}, {decay}"),
            ("minibatch", f"{retraining.rows_per_class} recalled images of each class"),
            ("augmentation", retraining.augmentation),
        ]
    )


def licence(manifest: Manifest) -> str:
    """The terms under which the memory, and what is made from it, may be used."""
    made = manifest.provenance
    return (
        f"The data it was made from: {escape(made.dataset_licence) or 'not stated'}. The memory and its classifiers "
        "are derived from that data: check that its terms allow your use, and credit the data where they ask for it."
    )


def _introduction(manifest: Manifest) -> str:
    return (
        f"A distilled memory of the data set {escape(manifest.provenance.dataset)}: a few numbers in place of the "
        "original pictures, which recall synthetic ones, from which fresh classifiers are trained in seconds."
    )


def _knowledge(manifest: Manifest) -> str:
    image = manifest.image
    addressed = (
        "the names of its classes, or mixtures of them"
        if manifest.queries == "labels"
        else "pictures, including pictures of classes that it was not made from"
    )
    rows = [
        (f"{len(manifest.labels)} classes", escape_all(manifest.labels)),
        *((f"group {escape(group)}", escape_all(members)) for group, members in manifest.groups.items()),
        ("pictures", f"{image.width} x {image.height} pixels, {'grey' if image.channels == 1 else 'colour'}"),
        ("addressed by", addressed),
    ]
    return facts(rows)


def _data(manifest: Manifest) -> str:
    made = manifest.provenance
    return facts(
        [
            ("data set", escape(made.dataset)),
            ("its SHA-256", f"`{made.dataset_sha256}`"),
            ("its licence", escape(made.dataset_licence) or "not stated"),
        ]
    )


def _size(bundle: MemoryBundle) -> str:
    budget = bundle.manifest.budget
    rows = [
        ("numbers stored", f"{budget.numbers_stored:,}; its budget, in images per class: {budget.images_per_class:g}"),
        ("original pictures", f"{budget.dataset_bytes:,} bytes"),
    ]
    if bundle.file_bytes is not None:
        share = budget.dataset_bytes / bundle.file_bytes
        rows.append(("the file", f"{bundle.file_bytes:,} bytes: the original pictures are {share:,.0f} times as large"))
        rows.append(("its SHA-256", f"`{bundle.sha256}`"))
    if bundle.manifest.query_encoder is not None:
        rows.append(("query encoder", "a separate file, not counted here"))
    return facts(rows)


def _accuracy(manifest: Manifest) -> list[str]:
    """The stated accuracy, every measurement, the latest last, and the labels that the networks confused."""
    if not manifest.accuracy:
        return ["Not measured: test it before you rely on it."]
    stated = stated_accuracy(manifest)
    paragraphs = [] if stated is None else [f"**{escape(stated.sentence)}**"]
    paragraphs += ["All measurements:", bullets(map(describe, manifest.accuracy))]
    if manifest.queries == "labels":
        paragraphs.append(f"Random guessing would reach {percent(1 / len(manifest.labels))}.")
    row = counted_row(manifest)
    return paragraphs + ([] if row is None else _confused(manifest, row))


def describe(row: Accuracy) -> str:
    """A measurement as a sentence."""
    how = PROTOCOLS.get(row.protocol, f"by the protocol {escape(row.protocol)}")
    several = f"mean of {row.runs} runs with a standard deviation of {percent(row.spread, 2)}"
    runs = "one run" if row.runs == 1 else several
    return f"**{percent(row.mean, 2)}** on {escape(row.data)} ({runs}): networks {escape(row.network)}, {how}."


def _confused(manifest: Manifest, row: MeasuredAccuracy) -> list[str]:
    """The best and the worst label, and the pairs of labels that are confused most often."""
    names = [escape(label) for label in manifest.labels]
    shares = [[count / max(1, sum(counts)) for count in counts] for counts in row.confusions or ()]
    known = sorted((share[position], position) for position, share in enumerate(shares) if any(share))
    pairs = sorted(
        (
            (-share, one, other)
            for one, counts in enumerate(shares)
            for other, share in enumerate(counts)
            if one != other
        )
    )
    lines = [(names[one], names[other], percent(-share)) for share, one, other in pairs[:MOST_PAIRS] if share < 0]
    (least, worst), (most, best) = known[0], known[-1]
    extremes = (
        f"The class recognised most often is {names[best]} ({percent(most)} of its pictures), the one recognised least "
        f"often {names[worst]} ({percent(least)})."
    )
    confused = ["Most often confused:", table(("pictures of", "taken for", "share"), lines)] if lines else []
    return [extremes, *confused]


def _making(manifest: Manifest) -> str:
    made, progress = manifest.provenance, manifest.progress
    rows = [
        ("method", f"{escape(made.method)}, {made.outer_steps:,} outer steps"),
        ("time", f"{made.seconds:,.0f} seconds on {escape(made.device)}"),
        ("date", escape(made.date)),
        ("code", f"version {escape(made.code_version)}, seed {made.seed}"),
        ("memory", f"`{manifest.memory.kind}`, preprocessing `{manifest.preprocessing}`"),
    ]
    if manifest.query_encoder is not None:
        encoder = manifest.query_encoder
        rows.append(("query encoder", f"`{encoder.file}`, SHA-256 `{encoder.sha256}`"))
    if progress is not None and progress.validation:
        best = max(point.accuracy for point in progress.validation)
        rows.append(("on validation pictures", f"{percent(best)} at best, over {progress.minutes:,.1f} minutes"))
    if (promise := _promise(manifest)) is not None:
        rows.append(("privacy", promise))
    if (robust := _robustness(manifest)) is not None:
        rows.append(("robustness", robust))
    settings = ", ".join(f"{escape(name)}={escape(str(value))}" for name, value in made.hyper_parameters.items())
    return facts([*rows, ("settings", settings or "none")])
