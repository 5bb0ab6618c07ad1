"""Hostile bundles with a wrong container: its frame, its header or the positions of its tensors."""

from __future__ import annotations

from tests.hostile_bundles.draft import HostileBundle, Json, build, frame

PICKLE = b"cposix\nsystem\n(S'echo a pickle was run'\ntR."


def containers() -> list[HostileBundle]:
    return [*frames(), *headers(), *metadata(), *entries(), *layouts()]


def frames() -> list[HostileBundle]:
    """Files without a readable header."""
    whole = build()
    short = "a file of {} bytes is too short to be safetensors"
    long = "the header claims more than 4194304 bytes"
    return [
        HostileBundle("empty", "no bytes at all", short.format(0), b""),
        HostileBundle("five-bytes", "shorter than the length of a header", short.format(5), whole[:5]),
        HostileBundle(
            "pickle",
            "a pickle that would run a command, under a trusted name",
            long,
            PICKLE,
        ),
        HostileBundle(
            "header-claims-exabytes",
            "a length of 2^64 - 1, to make the reader allocate",
            long,
            frame(b"{}", length=2**64 - 1),
        ),
        HostileBundle(
            "header-longer-than-file",
            "a header that ends after the file",
            "the header claims 1000 bytes, but only 2 follow",
            frame(b"{}", length=1000),
        ),
        HostileBundle(
            "cut-off",
            "a download that stopped before the last number",
            "the tensors take 88 bytes, but 84 follow the header",
            whole[:-4],
        ),
    ]


def headers() -> list[HostileBundle]:
    """Headers that are not the expected JSON."""

    def unreadable(name: str, abuse: str, reason: str, data: bytes) -> HostileBundle:
        return HostileBundle(name, abuse, f"the header cannot be read: {reason}", data)

    twice = build(edit_header=lambda text: text.replace('{"addressing"', '{"bases": {}, "addressing"'))
    constant = build(edit_header=lambda text: text.replace('"shape": [1]', '"shape": [NaN]'))
    return [
        unreadable(
            "header-not-utf8",
            "bytes that are no text",
            "'utf-8' codec can't decode byte 0xff in position 2: invalid start byte",
            frame(b'{"\xff": 1}'),
        ),
        unreadable(
            "header-not-json",
            "text that is no JSON",
            "this is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            frame(b"{bases: 1}"),
        ),
        unreadable(
            "header-nested-deeply",
            "a hundred thousand brackets, to exhaust the parser's stack",
            "the JSON is nested too deeply",
            frame(b"[" * 100_000),
        ),
        unreadable(
            "header-key-twice",
            "two tensors of one name: two readers may see two memories",
            "the key 'bases' appears twice",
            twice,
        ),
        unreadable("header-nan", "a shape that is NaN", "NaN is not a JSON number", constant),
        HostileBundle("header-not-an-object", "a list instead", "the header must be a JSON object", frame(b"[]")),
    ]


def metadata() -> list[HostileBundle]:
    """Metadata that is not exactly one text."""

    def case(name: str, abuse: str, header: Json) -> HostileBundle:
        sentence = "the metadata must hold exactly one text, 'memory_bundle'"
        return HostileBundle(name, abuse, sentence, build(header=header))

    return [
        case("metadata-missing", "tensors without a manifest", {"__metadata__": None}),
        case("metadata-second-key", "something beside the manifest", {"__metadata__": {"format": "pt"}}),
        case("metadata-not-text", "the manifest as a list", {"__metadata__": {"memory_bundle": []}}),
        case("metadata-not-an-object", "metadata that is a list", {"__metadata__": ["memory_bundle"]}),
    ]


def entries() -> list[HostileBundle]:
    """Header entries that describe a tensor wrongly."""

    def case(name: str, abuse: str, sentence: str, **entry: object) -> HostileBundle:
        return HostileBundle(name, abuse, sentence, build(header={"bases": entry}))

    types = "the tensor 'bases' is of type {}, not one of BF16, F16, F32, I8"
    shape = "the tensor 'bases' must have a shape of whole numbers above zero"
    return [
        case(
            "entry-with-extra-key",
            "a key that safetensors does not have",
            "the header entry of 'bases' must have dtype, shape and data_offsets",
            comment="hello",
        ),
        case("type-int64", "a tensor of whole numbers", types.format("I64"), dtype="I64"),
        case("type-not-text", "a type that is a list", types.format("[]"), dtype=[]),
        case("shape-empty", "a dimension of zero", shape, shape=[0, 1, 2, 2]),
        case("shape-negative", "negative dimensions with the right product", shape, shape=[-2, -1, 2, 2]),
        case("shape-fraction", "a dimension that is no whole number", shape, shape=[2.0, 1, 2, 2]),
        case("shape-not-a-list", "a shape that is one number", shape, shape=8),
        case(
            "shape-exabytes",
            "2^62 numbers in a small file",
            f"the tensors hold {2**62 + 14} numbers, more than 64000000",
            shape=[2**31, 2**31],
            data_offsets=[48, 48 + 2**64],
        ),
    ]


def layouts() -> list[HostileBundle]:
    """Tensors that do not fill the file from the first byte after the header to the last."""

    def case(name: str, abuse: str, sentence: str, **entry: object) -> HostileBundle:
        return HostileBundle(name, abuse, f"the tensor 'bases' {sentence}", build(header={"bases": entry}))

    offsets = "must have two offsets that are whole numbers"
    surplus = build(surplus=b"a second, hidden file")
    hidden = "the tensors take 88 bytes, but 109 follow the header"
    return [
        case("shape-too-large", "more numbers than bytes", "needs 48 bytes, not those of [48, 80]", shape=[3, 1, 2, 2]),
        case("type-too-small", "half the bytes that are there", "needs 16 bytes, not those of [48, 80]", dtype="F16"),
        case("offsets-overlap", "two tensors over the same bytes", "begins at 16, not at 48", data_offsets=[16, 48]),
        case("offsets-hole", "bytes of no tensor", "begins at 52, not at 48", data_offsets=[52, 84]),
        case(
            "offsets-reversed",
            "an end before its begin",
            "needs 32 bytes, not those of [80, 48]",
            data_offsets=[80, 48],
        ),
        case("offsets-negative", "a begin before the data", offsets, data_offsets=[-1, 31]),
        case("offsets-three", "a begin, an end, and one more", offsets, data_offsets=[48, 80, 80]),
        case(
            "offsets-beyond-end",
            "a terabyte that is not there",
            f"needs 32 bytes, not those of [48, {2**40}]",
            data_offsets=[48, 2**40],
        ),
        HostileBundle("surplus-bytes", "a file hidden behind the tensors", hidden, surplus),
    ]
