"""Forms of pictures, as they arrive: in pieces of any size, and with names as programs write them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from benchmarks import attacks
from recall_server.api.http.forms import PARTS_IN_A_TURN, read_pictures
from recall_server.errors import InvalidRequest
from recall_server.recall.uploads import Picture

MANY = [("images", f"{number}.png", b"x" * number) for number in range(900)]


def request(pieces: Iterable[bytes], media: str = attacks.FORM) -> Request:
    """A request whose body comes in these pieces."""
    coming = iter(pieces)

    async def receive() -> Message:
        piece = next(coming, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return Request({"type": "http", "headers": [(b"content-type", media.encode("latin-1"))]}, receive)


def read(pieces: Iterable[bytes], media: str = attacks.FORM, most: int = 1000) -> list[Picture]:
    return asyncio.run(read_pictures(request(pieces, media), max_pictures=most))


def part(disposition: bytes, content: bytes = b"picture") -> bytes:
    """A form of one part, whose boundary is x."""
    return b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n--x--\r\n"


def test_the_event_loop_stays_responsive_while_a_large_form_is_read() -> None:
    async def scenario() -> int:
        reading, turns = asyncio.create_task(read_pictures(request([attacks.form(MANY)]), max_pictures=1000)), 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert [picture.filename for picture in reading.result()] == [name for _, name, _ in MANY]
        return turns

    assert asyncio.run(scenario()) > len(MANY) // PARTS_IN_A_TURN


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_form_may_come_in_pieces_of_any_size(size: int) -> None:
    tricky = [("a", "1.png", b"\r\n--x"), ("b", "2.png", b""), ("c", "3.png", b"\r\n\r\n--\r" * 50)]
    body = attacks.form(tricky)
    pictures = read(body[start : start + size] for start in range(0, len(body), size))
    assert [(each.part, each.filename, each.data) for each in pictures] == tricky


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        (b'form-data; name="a"; filename=""', "a", ""),
        (b"form-data; name=a; filename=1.png", "a", "1.png"),
        (b'form-data; filename="1.png"; name="a"', "a", "1.png"),
        (b'FORM-DATA; NAME="a"; FILENAME="1.png"', "a", "1.png"),
        ('form-data; name="bär"; filename="日本.png"'.encode(), "bär", "日本.png"),
        (b'form-data; name="b\xe4r"; filename="\xe4.png"', "bär", "ä.png"),  # by a program that writes Latin-1
        (b'form-data; name="a%22b%0D%0A100%25"; filename="%22.png"', 'a"b\r\n100%25', '".png'),  # HTML, 4.10.21.8
        (b"form-data; name=\"a\"; filename*=UTF-8''%E2%82%AC%20rates.png", "a", "€ rates.png"),
        (b"form-data; name=\"a\"; filename*=iso-8859-1'en'%A3%20rates.png", "a", "£ rates.png"),
        (b'form-data; name="a"; filename="e.png"; filename*=utf-8\'\'%e2%82%ac.png', "a", "€.png"),
        (b'form-data; filename="' + b"n" * 300 + b'"; name="a"', "a", "n" * 200),
    ],
)
def test_names_are_read_as_programs_write_them(disposition: bytes, name: str, filename: str) -> None:
    (picture,) = read([part(disposition)], "multipart/form-data; boundary=x")
    assert (picture.part, picture.filename, picture.data) == (name, filename, b"picture")


def test_the_character_set_of_the_form_decides_how_names_are_read() -> None:
    body = part('form-data; name="bär"; filename="1.png"'.encode())
    assert read([body], "multipart/form-data; boundary=x; charset= utf-8 ")[0].part == "bär"
    assert read([body], "multipart/form-data; boundary=x; charset=latin-1")[0].part == "bÃ¤r"


@pytest.mark.parametrize("media", ["multipart/form-data; boundary=x", 'multipart/form-data; boundary="x"'])
def test_a_form_without_its_last_boundary_is_refused(media: str) -> None:
    whole = part(b'form-data; name="a"; filename="1.png"')
    assert read([whole, b"an epilogue"], media)
    for length in range(len(whole) - len(b"--\r\n")):
        with pytest.raises(HTTPException, match="the form cannot be read"):
            read([whole[:length]], media)


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (part(b'form-data; filename="1.png"'), "multipart/form-data"),
        (part(b'attachment; filename="1.png"'), "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\ndata\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (part(b'form-data; name="a"; filename="' + b"n" * 10_000 + b'"'), "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 100 + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    ],
    ids=["no boundary", "no form", "no name", "a long header", "many headers"],
)
def test_what_is_no_form_is_refused(body: bytes, media: str) -> None:
    with pytest.raises(HTTPException, match="the form cannot be read") as error:
        read([body], media)
    assert error.value.status_code == 400


def test_a_part_that_is_no_file_is_refused_before_the_rest_is_read() -> None:
    with pytest.raises(InvalidRequest, match="the part 'seed' is text; send each picture as a file") as error:
        read([part(b'form-data; name="seed"', b"1"), b"never read"], "multipart/form-data; boundary=x")
    assert error.value.parameter == "seed"


def test_more_files_than_allowed_are_refused() -> None:
    body = attacks.form(MANY[:4])
    assert len(read([body], most=4)) == 4
    with pytest.raises(HTTPException, match="more than 3 files"):
        read([body], most=3)
