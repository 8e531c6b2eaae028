"""Images over HTTP: every form of the answer, every way to send one, and what is refused."""

import base64
import io
import json
import random
import socket
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from PIL import Image

from segtune.errors import ConfigError
from segtune.inference.regions.regions import Region, find_regions
from segtune.serving import job_routes, listening
from segtune.serving.access import is_loopback
from segtune.serving.predictor import IMAGE_OPTIONS, JOB_OPTIONS
from segtune.serving.served import ModelSlot
from segtune.serving.settings import ServerSettings
from tests.serving.server import CLASSES, picture, png, running, served, slot

PIXELS = picture()
BODY = png(PIXELS)
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="../../etc/a.png"\r\n\r\n'
    + BODY
    + b"\r\n--x--\r\n"
)
AS_JSON = json.dumps({"image": base64.b64encode(BODY).decode()}).encode()


@pytest.fixture(scope="module")
def model():
    return slot()


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    with running(model, tmp_path_factory.mktemp("server")) as client:
        yield client


@pytest.fixture(scope="module")
def small(model, tmp_path_factory):
    """A server that takes small bodies alone."""
    with running(model, tmp_path_factory.mktemp("small"), max_body_mb=0.5) as client:
        yield client


@pytest.fixture(scope="module")
def expected(model):
    return model.current.segmenter.segment(PIXELS)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (BODY, "image/png"),
        (BODY, "application/octet-stream"),
        (FORM, "multipart/form-data; boundary=x"),
        (AS_JSON, "application/json"),
    ],
)
def test_each_way_to_send_an_image_gives_its_mask(client, expected, body, content_type):
    reply = client("POST", "/v1/segment?formats=masks", body, content_type=content_type)
    assert reply.status == 200
    assert reply.headers["x-segtune-model"] == "v1"
    mask = np.array(Image.open(io.BytesIO(reply.body)))
    np.testing.assert_array_equal(mask, expected.mask)


def test_the_regions_are_those_of_the_segmenter(client, expected, model):
    answer = client("POST", "/v1/segment?regions=components&min_area=3", BODY).json
    rows = answer["images"][0]["regions"]
    wanted = find_regions(
        expected.mask, expected.confidence, model.current.segmenter.classes, "components", 3
    )
    assert [Region.from_json(row) for row in rows] == wanted
    assert answer["schema_version"] == 2
    assert "polygons" not in rows[0]
    assert (
        "polygons"
        in client("POST", "/v1/segment?formats=regions", BODY).json["images"][0]["regions"][0]
    )


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("text/html, image/jpeg;q=0.8", "image/jpeg"),
        ("application/geo+json", "application/geo+json"),
        ("application/vnd.coco+json", "application/vnd.coco+json"),
        ("application/zip", "application/zip"),
    ],
)
def test_accept_chooses_the_form(client, accept, media_type):
    reply = client("POST", "/v1/segment", BODY, accept=accept)
    assert (reply.status, reply.headers["content-type"].split(";")[0]) == (200, media_type)


@pytest.mark.parametrize(
    ("route", "options"), [("/v1/segment", IMAGE_OPTIONS), ("/v1/jobs", ("name", *JOB_OPTIONS))]
)
def test_the_description_of_the_api_names_each_option(client, route, options):
    described = client("GET", "/openapi.json").json["paths"][route]["post"]
    assert set(options) == {row["name"] for row in described["parameters"]}
    assert "application/octet-stream" in described["requestBody"]["content"]


def test_several_forms_come_as_an_archive(client, expected):
    reply = client("POST", "/v1/segment?formats=masks,overlays,yolo,coco,clarifai,geojson", BODY)
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        names = set(archive.namelist())
        overlay = Image.open(io.BytesIO(archive.read("overlays.jpg")))
    assert names == {
        *("masks.png", "overlays.jpg", "yolo.txt", "coco.json", "clarifai.json", "geojson.geojson")
    }
    difference = np.abs(np.asarray(overlay, int) - expected.overlay().astype(int))
    assert difference.mean() < 25  # JPEG of noise


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/segment", b"", 400, "body is empty"),
        ("/v1/segment", b"no image", 422, "none of the known image formats"),
        ("/v1/segment", BODY[: len(BODY) // 2], 422, "did not decode whole"),
        ("/v1/segment", BODY * 80, 413, "larger than 0.5 MB"),
        ("/v1/segment?formats=tiff", BODY, 400, "rle, regions, masks"),
        ("/v1/segment?formats=edited", BODY, 400, "no workflow with edits"),
        ("/v1/segment?tta=twice", BODY, 400, "none, flip, scales"),
        ("/v1/segment?min_area=0", BODY, 400, "at least 1"),
        ("/v1/segment?source=/etc/passwd", BODY, 400, "source: unknown"),
        ("/v1/segment?tile=-3", BODY, 400, "tile"),
        ("/v1/segment?sample_ms=500", BODY, 400, "POST /v1/jobs takes it"),
        ("/v1/segment?smooth=flow", BODY, 400, "POST /v1/jobs takes it"),
        ("/v1/segment?overlap=0.5", BODY, 400, "add tile=N"),
        ("/v1/segment?tile=64&overlap=nan", BODY, 400, "a number up to 1e+09"),
        ("/v1/segment?min_area=9999999999999999999999", BODY, 400, "a number up to 1e+09"),
        ("/v1/segment?min_area=3&min_area=4", BODY, 400, "given twice"),
        ("/v1/jobs?sample_ms=nan", BODY, 400, "a number up to 1e+09"),
        ("/v1/jobs?sample_ms=inf", BODY, 400, "a number up to 1e+09"),
        ("/v1/jobs?sample_ms=-1", BODY, 400, "0.001 or more"),
        ("/v1/nothing", BODY, 404, "POST /v1/nothing: Not Found"),
        ("/v1/models", BODY, 405, "Method Not Allowed"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_reason(small, path, body, status, words):
    reply = small("POST", path, body)
    assert (reply.status, words in reply.json["error"]) == (status, True), reply
    assert small("GET", "/healthz").status == 200


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path):
    bomb = png(np.zeros((400, 400, 3), np.uint8))
    with running(slot(), tmp_path, max_pixels=10_000) as client:
        reply = client("POST", "/v1/segment", bomb)
    assert reply.status == 422
    assert "400 x 400 pixels; at most 10,000" in reply.json["error"]


@pytest.mark.parametrize(
    ("authorization", "status"), [("Bearer s", 200), ("Key s", 200), ("", 401)]
)
def test_a_token_opens_all_but_the_page(tmp_path, authorization, status):
    with running(slot(), tmp_path, token="s") as client:
        assert client("POST", "/v1/segment", BODY, authorization=authorization).status == status
        assert client("GET", "/v1/models", authorization=authorization).status == status
        assert client("GET", "/metrics").status == 401
        for path in ("/", "/healthz", "/page/page.js", "/page/page.css", "/page/base.css"):
            assert client("GET", path).status == 200
        assert client("GET", "/page/index.html").status == 404
        assert "default-src 'self'" in client("GET", "/").headers["content-security-policy"]


def test_an_address_beyond_loopback_needs_a_token():
    with pytest.raises(ConfigError, match="SEGTUNE_TOKEN"):
        ServerSettings(host="0.0.0.0")
    assert ServerSettings(host="0.0.0.0", token="s").host == "0.0.0.0"
    assert is_loopback("::1") and ServerSettings(host="::1").token is None


@pytest.mark.parametrize("name", ["max_body_mb", "deadline", "poll", "jobs_gb", "queue"])
@pytest.mark.parametrize("number", [-1, float("nan"), float("inf")])
def test_a_limit_that_is_no_limit_is_refused(name, number):
    with pytest.raises(ConfigError, match=f"{name}={number}"):
        ServerSettings(**{name: number})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1:9", "origin": "http://127.0.0.1:9"}, 200),
    ],
)
def test_pages_of_other_sites_do_not_reach_a_server_on_loopback(client, headers, status):
    assert client("POST", "/v1/segment", BODY, **headers).status == status


def test_requests_beyond_the_queue_are_asked_to_come_again(tmp_path, monkeypatch):
    go = threading.Event()
    model = slot()
    segment = model.current.segmenter.segment
    monkeypatch.setattr(
        model.current.segmenter, "segment", lambda *a, **k: go.wait(20) and segment(*a, **k)
    )
    with running(model, tmp_path, queue=4) as client, ThreadPoolExecutor(12) as pool:
        replies = [pool.submit(client, "POST", "/v1/segment", BODY) for _ in range(12)]
        while sum(reply.done() for reply in replies) < 8:
            assert client("GET", "/healthz").status == 200  # answered beside the full queue
        go.set()
        statuses = sorted(reply.result().status for reply in replies)
        assert statuses == [200] * 4 + [429] * 8
        refused = next(r.result() for r in replies if r.result().status == 429)
        assert refused.headers["retry-after"] == "1"
        text = client("GET", "/metrics").body.decode()
        assert 'segtune_requests_total{route="other",status="429"} 8.0' in text


def test_an_answer_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    go = threading.Event()
    model = slot()
    monkeypatch.setattr(model.current.segmenter, "segment", lambda *a, **k: go.wait(20))
    with running(model, tmp_path, deadline=0.2) as client:
        reply = client("POST", "/v1/segment", BODY)
        go.set()
    assert (reply.status, reply.headers["retry-after"]) == (504, "5")


def test_a_new_champion_replaces_the_old_one_without_a_failed_request(tmp_path):
    versions = [served("v1", seed=1), served("v2", seed=2)]
    masks = {v.version: v.segmenter.segment(PIXELS).mask for v in versions}
    chosen = [versions[0]]
    model = ModelSlot(
        lambda: chosen[0], lambda: (chosen[0].version, chosen[0].manifest), lambda line: None
    )
    first, replaced = threading.Barrier(5), threading.Event()

    def answers(client) -> list[str]:
        """The versions that answer one client, which asks again as soon as it has an answer."""
        seen = []
        while len(seen) < 6 or not replaced.is_set() or seen[-1] == "v1":
            reply = client("POST", "/v1/segment?formats=masks", BODY)
            assert reply.status == 200
            seen.append(reply.headers["x-segtune-model"])
            mask = np.array(Image.open(io.BytesIO(reply.body)))
            np.testing.assert_array_equal(mask, masks[seen[-1]])
            if len(seen) == 3:
                first.wait(20)
        return seen

    with running(model, tmp_path) as client, ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(answers, client) for _ in range(4)]
        first.wait(20)
        chosen[0] = versions[1]
        assert client("POST", "/v1/reload", b"").json["replaced"]
        replaced.set()
        for seen in clients:
            assert seen.result() == sorted(seen.result())  # it switches once
            assert set(seen.result()) == {"v1", "v2"}
        assert not client("POST", "/v1/reload", b"").json["replaced"]


def test_a_champion_that_cannot_be_opened_is_told_and_the_old_one_stays():
    lines: list[str] = []
    first = served()
    model = ModelSlot(lambda: first, lambda: ("v1", "v1"), lines.append)

    def broken():
        raise ConfigError("the registry does not answer")

    model._locate = broken
    assert not model.refresh()
    assert not model.refresh()
    assert model.current is first
    assert lines == ["v1 is still served: the registry does not answer"]


def test_the_hosted_segmenters_clients_get_regions(client, expected):
    image = {"data": {"image": {"base64": base64.b64encode(BODY).decode()}}}
    url = {"data": {"image": {"url": "file:///etc/passwd"}}}
    for path in ("/v2/models/m/outputs", "/v2/users/u/apps/a/models/m/versions/1/outputs"):
        answer = client("POST", path, json.dumps({"inputs": [image]}).encode()).json
        assert answer["status"]["code"] == 10000
        output = answer["outputs"][0]
        np.testing.assert_array_equal(_mask_of(output), expected.mask)
    mixed = client("POST", "/v2/models/m/outputs", json.dumps({"inputs": [image, url]}).encode())
    assert (mixed.status, mixed.json["status"]["code"]) == (207, 10010)
    assert "never a URL" in mixed.json["outputs"][1]["status"]["details"]
    assert client("POST", "/v2/models/m/outputs", b"[]").status == 400


HOSTED = "/v2/models/m/outputs"


def hosted(*inputs: bytes, kind: str = "image") -> bytes:
    """The body of a hosted request."""
    encoded = [base64.b64encode(data).decode() for data in inputs]
    return json.dumps({"inputs": [{"data": {kind: {"base64": t}}} for t in encoded]}).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"[]", {}, 400, 11100),
        (b"x" * 600_000, {}, 413, 40033),
        (hosted(BODY), {"host": "evil.example"}, 403, 11007),
    ],
)
def test_a_hosted_request_that_is_refused_gets_the_hosted_shape(small, body, headers, status, code):
    reply = small("POST", HOSTED, body, **headers)
    assert (reply.status, reply.json["status"]["code"], reply.json["outputs"]) == (status, code, [])
    assert reply.json["status"]["description"] and reply.json["status"]["details"]
    assert small("GET", HOSTED).json["status"]["code"] == 11103


def test_a_hosted_request_has_one_deadline_token_and_queue(tmp_path, monkeypatch):
    go, model = threading.Event(), slot()
    monkeypatch.setattr(model.current.segmenter, "segment", lambda *a, **k: go.wait(20))
    words = {"authorization": "Key s"}
    with (
        running(model, tmp_path, token="s", queue=1, deadline=0.5) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        refused = client("POST", HOSTED, hosted(BODY))
        assert (refused.status, refused.json["status"]["code"]) == (401, 11008)
        slow = pool.submit(client, "POST", HOSTED, hosted(BODY, BODY, BODY), **words)
        full = client("POST", HOSTED, hosted(BODY), **words)
        while full.status == 504 and not slow.done():
            full = client("POST", HOSTED, hosted(BODY), **words)
        late = slow.result()
        go.set()
    assert {full.status, late.status} <= {429, 504}
    for reply in (full, late):
        code = {429: 11005, 504: 40032}[reply.status]
        assert (reply.json["status"]["code"], "retry-after" in reply.headers) == (code, True)


def test_one_version_answers_all_inputs_of_a_hosted_request(tmp_path, monkeypatch):
    versions = [served("v1", seed=1), served("v2", seed=2)]
    masks = {v.version: v.segmenter.segment(PIXELS).mask for v in versions}
    chosen = [versions[0]]
    model = ModelSlot(
        lambda: chosen[0], lambda: (chosen[0].version, chosen[0].manifest), lambda line: None
    )
    begun, go = threading.Event(), threading.Event()
    segment = versions[0].segmenter.segment

    def waits(*words, **options):
        begun.set()
        go.wait(20)
        return segment(*words, **options)

    monkeypatch.setattr(versions[0].segmenter, "segment", waits)
    with running(model, tmp_path) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client, "POST", HOSTED, hosted(*[BODY] * 9))
        assert begun.wait(20)
        chosen[0] = versions[1]
        assert client("POST", "/v1/reload", b"").json["replaced"]
        go.set()
        replies = {"v1": first.result(), "v2": client("POST", HOSTED, hosted(BODY))}
    for version, reply in replies.items():
        assert reply.headers["x-segtune-model"] == version
        for output in reply.json["outputs"]:
            assert output["model"]["model_version"]["id"] == version
            np.testing.assert_array_equal(_mask_of(output), masks[version])


def _mask_of(output) -> np.ndarray:
    """Class ids of a hosted answer."""
    mask = np.zeros(PIXELS.shape[:2], np.uint8)
    for region in output["data"]["regions"]:
        encoded = base64.b64decode(region["region_info"]["mask"]["image"]["base64"])
        bits = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE) > 0
        mask[bits] = CLASSES.index(region["data"]["concepts"][0]["name"])
    return mask


def hostile_bodies(number: int) -> list[tuple[bytes, str]]:
    """Mutations of good requests: cut, joined, overwritten, and of other types."""
    rng = random.Random(0)
    good = [
        (BODY, "image/png"),
        (FORM, "multipart/form-data; boundary=x"),
        (AS_JSON, "application/json"),
    ]
    bodies = []
    for _ in range(number):
        body, content_type = rng.choice(good)
        data = bytearray(body)
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data))] if rng.random() < 0.3 else data
        bodies.append(
            (bytes(data), rng.choice([content_type, content_type, "text/plain", "x" * 900]))
        )
    return bodies


@pytest.mark.parametrize("path", ["/v1/segment", "/v2/models/m/outputs"])
@pytest.mark.parametrize("number", [100, pytest.param(2500, marks=pytest.mark.slow)])
def test_hostile_bodies_are_answered_without_a_fault_of_the_server(client, path, number):
    for body, content_type in hostile_bodies(number):
        assert client("POST", path, body, content_type=content_type).status in (200, 207, 400, 422)
    assert client("POST", "/v1/segment", BODY).status == 200


def form(head: bytes, fields: int = 0) -> bytes:
    return b"--x\r\n\r\n\r\n" * fields + b"--x\r\n" + head + b"\r\n\r\n" + BODY + b"\r\n--x--"


NESTED = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("segment", form(b'Content-Disposition: form-data; filename="a.png"', 20), 200),
        ("segment", form(b'Content-Disposition: form-data; filename="a.png"', 100_000), 400),
        ("segment", form(b"Content-Disposition: form-data; filename*=idna''%ff"), 400),
        ("segment", b"--x\r\n" + NESTED * 2000, 400),
        ("segment", form(b"X: " + b"y" * 9000), 400),
        ("segment", b'{"name": "\\ud800", "image": "aGk="}', 400),
        ("outputs", b'{"inputs": [], "sample_ms": "\\ud800"}', 400),
    ],
    ids=["fields", "many fields", "name", "nested", "long head", "surrogate", "hosted surrogate"],
)
def test_a_form_or_json_that_is_made_to_hurt_is_answered_at_once(client, path, body, status):
    path = "/v1/segment" if path == "segment" else "/v2/models/m/outputs"
    content_type = "multipart/form-data; boundary=x" if body[:1] == b"-" else "application/json"
    started = time.monotonic()
    assert client("POST", path, body, content_type=content_type).status == status
    assert time.monotonic() - started < 20


def test_a_name_in_other_letters_is_percent_encoded_in_the_header(tmp_path):
    with running(slot(served("models:/улица 3/1")), tmp_path) as client:
        reply = client("POST", "/v1/segment", BODY)
    assert unquote(reply.headers["x-segtune-model"]) == "models:/улица 3/1"


HEAD = b"POST /v1/segment HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),  # closed without a word
        (HEAD, b""),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HEAD, b"HTTP/1.1 200 OK"),
        (HEAD + b"Content-Length: 9\r\n\r\nxx", b"HTTP/1.1 408 Request Timeout"),
        (HEAD.replace(b"segment", b"jobs") + b"Content-Length: 9\r\n\r\nxx", b"HTTP/1.1 408"),
        (HEAD + b"X-Word: " + b"x" * 100_000, b"HTTP/1.1 400 Bad Request"),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    ],
    ids=["silent", "head", "second head", "body", "upload", "huge header", "no HTTP"],
)
def test_slow_and_huge_senders_are_given_up_and_the_next_request_is_answered(
    tmp_path, monkeypatch, sent, answer
):
    monkeypatch.setattr(listening, "_IDLE_SECONDS", 0.3)
    monkeypatch.setattr(job_routes, "_BODIES", 1)
    with running(slot(), tmp_path, deadline=0.3) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(sent)
            reply = b"".join(iter(lambda: connection.recv(4096), b""))  # until it is closed
        assert reply.startswith(answer) and bool(reply) == bool(answer)
        assert client("GET", "/healthz").status == 200
        assert client("GET", "/v1/jobs").json == {"jobs": []}
