"""The names of fields and files in forms, as browsers and versions of curl write them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recall_client import RecallClient
from tests.recall_server.api.live import listening
from tests.recall_server.api.requests import problem
from tests.recall_server.serving_examples import picture, png
from tests.suite.needs import needs

MEDIA = {"Content-Type": "multipart/form-data; boundary=x"}
PNG, OTHER, THIRD = (png(picture("left", number)) for number in range(3))


def form(*dispositions: str) -> bytes:
    """A form with another picture in each part, whose Content-Disposition goes on like this."""
    heads = [f"--x\r\nContent-Disposition: form-data; {each}\r\n\r\n".encode() for each in dispositions]
    return b"".join(head + data + b"\r\n" for head, data in zip(heads, (PNG, OTHER), strict=False)) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("12%22 disc", '12" disc'),
        ("%22%22", '""'),
        (r"12\" disc", '12" disc'),  # curl before 7.81, and the page
        (r"a\\b", r"a\b"),
        ("100%25", "100%25"),
        ("50%", "50%"),
        ("50% off", "50% off"),
        ("%41", "%41"),
        ("a+b", "a+b"),
        ("%2522", "%2522"),
        ("caf\u00e9", "caf\u00e9"),
        ("a;b=c", "a;b=c"),
    ],
)
def test_the_class_is_what_the_form_encoded(client: TestClient, sent: str, name: str) -> None:
    body = form(f'name="{sent}"; filename="1.png"', 'name="right"; filename="2.png"')
    answer = client.post("/classifier?addressing=prototypes", content=body, headers=MEDIA)
    assert answer.is_success, answer.text
    assert answer.json()["labels"] == [name, "right"]


@pytest.mark.parametrize("sent", ["a%0D%0Ab", "a%0Ab", "%0Da", "tail%0A"])
@pytest.mark.parametrize("path", ["/classifier", "/recall"])
def test_line_breaks_in_a_class_are_refused(client: TestClient, path: str, sent: str) -> None:
    body = form(f'name="{sent}"; filename="1.png"', 'name="right"; filename="2.png"')
    problem(client.post(path, content=body, headers=MEDIA), 422, "invalid-request")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ('filename="12%22.png"', """'12".png'"""),
        (r'filename="12\".png"', """'12".png'"""),
        ('filename="50%.png"', "'50%.png'"),
        ('filename="a%0Ab.png"', r"'a\nb.png'"),
        ("filename*=UTF-8''%e2%82%ac%20rates.png", "'\u20ac rates.png'"),
        ("filename*=iso-8859-1'en'%a3.png", "'\u00a3.png'"),
        ("filename=\"plain.png\"; filename*=utf-8''%c3%a9.png", "'\u00e9.png'"),
        ("filename*=UTF-8''%ff", "'\ufffd'"),
    ],
)
def test_messages_name_the_file_as_its_sender_does(client: TestClient, sent: str, shown: str) -> None:
    body = form(f'name="left"; {sent}').replace(PNG, b"no picture")
    document = problem(client.post("/recall", content=body, headers=MEDIA), 422, "unreadable-picture")
    assert f"the picture {shown} of the part 'left'" in document["detail"]


def test_a_part_without_any_file_name_is_still_a_text(client: TestClient) -> None:
    document = problem(client.post("/classifier", content=form('name="left"'), headers=MEDIA), 422, "invalid-request")
    assert "is text" in document["detail"]


@pytest.mark.process
@needs("curl")
def test_curl_and_the_client_may_send_quotes(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / '12".png'
    path.write_bytes(PNG)
    curl = shutil.which("curl")
    assert curl is not None
    with listening(client.app) as (host, port):
        server = f"http://{host}:{port}"
        sent = [curl, "-s", f"{server}/classifier?addressing=prototypes"]
        fields = [f'-Fright=@"{str(path).replace(chr(34), chr(92) + chr(34))}"', f'-F12" disc=@{tmp_path}/2.png']
        (tmp_path / "2.png").write_bytes(OTHER)
        said = subprocess.run([*sent, *fields], check=True, capture_output=True, text=True, timeout=60).stdout
        assert r'"right","12\" disc"' in said
        with RecallClient(server) as ours:
            trained = ours.train(
                {'12" disc': [path], r"back\slash": [OTHER], "100%25": [THIRD]}, addressing="prototypes"
            )
            assert trained.labels == ('12" disc', r"back\slash", "100%25")
