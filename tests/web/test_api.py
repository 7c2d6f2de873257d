"""The API: what it answers to images of every kind, that it says so in its schema, and what it refuses."""

import asyncio
import base64
import io
import json
import re
import threading
import zlib
from functools import partial

import attrs
import numpy as np
import pytest
from drawings import drawing, drawings, plain

from funcnn import Key, tree
from funcnn.checks import LayerError
from funcnn.compose import residual, serial
from funcnn.data import rescale
from funcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from funcnn.model_file import Trained, load_trained
from funcnn.settings import as_code
from funcnn.train import Model
from funcnn.trained import model_path

pytest.importorskip("starlette", reason="the extra web is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from funcnn.web import app as app_module  # noqa: E402
from funcnn.web import make_app, seen  # noqa: E402
from funcnn.web.limits import BODY  # noqa: E402

TRAINED = load_trained(model_path("mnist_cnn"))


class Client:
    """Asks the application, without a server between them."""

    def __init__(self, app):
        self.transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def ask(self, method, path, **more):
        async def answer():
            async with httpx.AsyncClient(transport=self.transport, base_url="http://localhost") as client:
                return await client.request(method, path, **more)

        return asyncio.run(answer())


def client_of(trained=TRAINED, name="digits", **more):
    return Client(make_app(trained, name, **more))


def net_of(net, in_shape, classes):
    params, state, _ = net.init(Key(0), in_shape)
    return Trained(net, Model(params, state), in_shape, classes, rescale(255))


def file_of(image, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def client():
    return client_of()


def predict(client, content, kind="image/png", **query):
    return client.ask("POST", "/api/predict", content=content, headers={"content-type": kind}, params=query)


def pixels_in(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


# --- Answers --------------------------------------------------------------------------------------------------


def test_drawings_of_ten_styles_are_recognised(client):
    """Thirty as files, as JPEG where they are photographs, in base64, or as arrays of pixels."""
    right, styles = 0, set()
    for i, (digit, style, image) in enumerate(drawings(3)):
        if style == "photographed":
            answer = predict(client, file_of(image, "JPEG"), "image/jpeg")
        elif i % 3 == 0:
            answer = client.ask("POST", "/api/predict", json={"image": base64.b64encode(file_of(image)).decode()})
        elif i % 3 == 1 and image.size < 300_000:
            answer = client.ask("POST", "/api/predict", json={"pixels": image.tolist()})
        else:
            answer = predict(client, file_of(image))
        assert answer.status_code == 200
        right += answer.json()["class"] == str(digit)
        styles.add(style)
    assert len(styles) == 10
    assert right >= 28


def test_an_answer_says_what_the_net_does(client):
    image = drawing(4, 0, plain)
    answer = predict(client, file_of(image), layers="true").json()
    assert answer["class"] == "4"
    assert answer["classes"] == list(TRAINED.classes)
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["probability"] == max(answer["probabilities"]) == answer["probabilities"][4]
    assert answer["warning"] is None
    np.testing.assert_array_equal(pixels_in(answer["prepared"]), TRAINED.prepare(image)[..., 0])
    assert [(each["path"], each["shape"], len(each["maps"])) for each in answer["layers"]] == [
        ("1", [24, 24, 8], 8), ("3", [20, 20, 8], 8), ("4", [10, 10, 8], 8),
    ]  # fmt: skip
    assert [each["layers"][-1] for each in answer["layers"]] == ["relu()", "relu()", "max_pool2d(2)"]
    # A convolution's maps by hand: the first kernel at one place.
    stored = TRAINED.preprocess(TRAINED.prepare(image)[None])[0, :, :, 0]
    layer = TRAINED.model.params[0]
    values = [float((stored[i : i + 5, 10:15] * layer.weight[:, :, 0, 0]).sum() + layer.bias[0]) for i in range(24)]
    first = answer["layers"][0]
    shown = np.clip((np.maximum(values, 0) - first["lowest"]) / (first["highest"] - first["lowest"]), 0, 1)
    np.testing.assert_allclose(pixels_in(first["maps"][0])[:, 10] / 255, shown, atol=0.003)
    assert predict(client, file_of(image)).json()["layers"] is None


def test_nothing_drawn_and_what_is_unlike_the_training_data_are_said(client):
    blank = predict(client, BLANK, layers="true").json()
    assert (blank["class"], blank["probabilities"], blank["prepared"], blank["layers"]) == (None,) * 4
    assert "nothing drawn" in blank["warning"]
    choosy = client_of(attrs.evolve(TRAINED, familiar_logit=1e6))
    doubted = predict(choosy, file_of(drawing(4, 0, plain))).json()
    assert doubted["class"] == "4"
    assert "unlike" in doubted["warning"]


def test_the_model_is_described(client):
    found = client.ask("GET", "/api/model").json()
    assert found["name"] == "digits"
    assert (found["input"], found["parameters"], found["ink"]) == (
        {"height": 28, "width": 28, "channels": 1},
        9826,
        "dark",
    )
    assert found["prepare"] == as_code(TRAINED.prepare)
    assert client_of(load_trained(model_path("fashion_mlp"))).ask("GET", "/api/model").json()["ink"] == "light"


def test_a_drawing_is_shown_white_whatever_its_shade_in_the_data():
    trained = load_trained(model_path("digits_cnn"))
    image = drawing(2, 0, plain)
    stored = trained.prepare(image)[..., 0]
    assert stored.max() == 16
    shown = pixels_in(predict(client_of(trained), file_of(image)).json()["prepared"])
    np.testing.assert_array_equal(shown, np.rint(stored * (255 / 16)))


def test_nets_of_other_images_are_served():
    block = serial(conv2d(6, 3, padding="same"), relu())
    net = serial(conv2d(6, 3, padding="same"), residual(block), max_pool2d(4), flatten(), dense(20), relu(), dense(2))
    client = client_of(net_of(net, (32, 32, 3), ("cat", "dog")))
    assert client.ask("GET", "/api/model").json()["ink"] is None
    answer = predict(client, file_of(np.zeros((50, 70, 3), np.uint8), "JPEG"), "image/jpeg", layers="true").json()
    assert answer["class"] in ("cat", "dog")
    assert pixels_in(answer["prepared"]).shape == (32, 32, 3)
    # The residual stands for what is in it; units are one image; what only reshapes, and the outputs, are left out.
    assert [(each["path"], pixels_in(each["maps"][0]).shape) for each in answer["layers"]] == [
        ("1", (32, 32)), ("2", (8, 8)), ("5", (4, 5)),
    ]  # fmt: skip


def test_units_fill_rows_and_the_rest_is_dark():
    trained = net_of(serial(flatten(), dense(7), dense(2)), (2, 2, 1), ("a", "b"))
    (stage,) = seen.stages(trained, {"0": "", "1": "dense(7)", "2": ""}, np.ones((2, 2, 1), np.float32))
    assert (stage.path, stage.layers, stage.shape, stage.maps.shape) == ("1", ("dense(7)",), (7,), (1, 3, 3))
    assert stage.maps[0, 2].tolist()[1:] == [0, 0]


# --- The schema -----------------------------------------------------------------------------------------------


def test_every_answer_is_as_the_schema_says(client):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    document = client.ask("GET", "/api/schema").json()
    assert document["openapi"] == "3.1.0"

    def check(value, part):
        validator = jsonschema.Draft202012Validator({**document, **part})
        assert [error.message for error in validator.iter_errors(value)] == []

    def answer_of(path, method, response):
        return document["paths"][path][method]["responses"][str(response.status_code)]["content"]["application/json"][
            "schema"
        ]

    image = file_of(drawing(2, 1, plain))
    predictions = [
        predict(client, image, layers="true"), predict(client, image), predict(client, BLANK), predict(client, b"no"),
        predict(client, b"{", "application/json"), predict(client, b"x", "text/plain"),
        predict(client, b"[]", "application/json"), predict(client, b"x" * (BODY + 1)),
    ]  # fmt: skip
    for response in predictions:
        check(response.json(), answer_of("/api/predict", "post", response))
    assert [each.status_code for each in predictions] == [200, 200, 200, 415, 400, 415, 422, 413]
    model = client.ask("GET", "/api/model")
    check(model.json(), answer_of("/api/model", "get", model))
    asked = document["paths"]["/api/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for good in ({"pixels": [[0, 255]]}, {"pixels": [[[1, 2, 3]]]}, {"image": "aGk="}):
        check(good, asked)
    with pytest.raises(AssertionError):
        check({"pixels": [[256]]}, asked)
    # It would notice an answer of another form.
    with pytest.raises(AssertionError):
        check(predictions[0].json() | {"more": 1}, answer_of("/api/predict", "post", predictions[0]))


# --- What is refused ------------------------------------------------------------------------------------------


def bomb(side):
    """A PNG of so many pixels a side, in a few bytes: its header alone."""
    file = bytearray(file_of(np.zeros((1, 1, 1), np.uint8)))
    file[16:24] = side.to_bytes(4, "big") * 2
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    return bytes(file)


DRAWN = file_of(drawing(3, 0, plain))
BLANK = file_of(np.full((100, 100, 3), 250, np.uint8))
REFUSED = {
    "no image": (b"hello", "image/png", 415, "it is no PNG or JPEG"),
    "nothing": (b"", "image/jpeg", 415, "it is no PNG or JPEG"),
    "another format": (file_of(np.zeros((9, 9, 3), np.uint8), "GIF"), "image/png", 415, "it is no PNG or JPEG"),
    "truncated": (DRAWN[: len(DRAWN) // 2], "image/png", 400, "it is damaged"),
    "many pixels": (bomb(6_000), "image/png", 413, "6,000x6,000 are too many pixels; there may be 25,000,000"),
    "far too many pixels": (bomb(60_000), "image/png", 413, "too many pixels; there may be 25,000,000"),
    "too large": (b"x" * (BODY + 1), "image/png", 413, "more than 16,777,216 bytes"),
    "no type": (DRAWN, "", 415, "got 'no content type'"),
    "a form": (DRAWN, "multipart/form-data; boundary=x", 415, "got 'multipart/form-data'"),
    "no JSON": (b'{"image": ', "application/json", 400, "it is no JSON: "),
    "no text": (b"\xff\xfe\xfd", "application/json", 400, "it is no JSON: "),
    "deep": (b'{"pixels": ' + b"[" * 100_000, "application/json", 400, "nested too deeply"),
    "a long number": (b'{"pixels": [[' + b"9" * 10_000 + b"]]}", "application/json", 400, "it is no JSON: "),
}
# Values of the JSON body.
REFUSED |= {
    name: (json.dumps(value).encode(), "application/json; charset=utf-8", status, text)
    for name, value, status, text in [
        ("an array", [1], 422, 'either "image"'),
        ("no fields", {}, 422, 'either "image"'),
        ("both", {"image": "", "pixels": []}, 422, 'either "image"'),
        ("another", {"images": ""}, 422, 'either "image"'),
        ("image a number", {"image": 3}, 422, "a string, got a number"),
        ("no base64", {"image": "?!"}, 400, "it is no base64"),
        ("not ASCII", {"image": "é"}, 400, "it is no base64"),
        ("base64 of text", {"image": "aGVsbG8="}, 415, "it is no PNG or JPEG"),
        ("pixels a string", {"pixels": "no"}, 422, "got a string"),
        ("no pixels", {"pixels": []}, 422, "shape (0,)"),
        ("a row", {"pixels": [1, 2]}, 422, "shape (2,)"),
        ("two channels", {"pixels": [[[1, 2]]]}, 422, "shape (1, 1, 2)"),
        ("ragged", {"pixels": [[1, 2], [3]]}, 422, "all of one length"),
        ("texts", {"pixels": [["a"]]}, 422, "something else"),
        ("null", {"pixels": [[None]]}, 422, "something else"),
        ("booleans", {"pixels": [[True]]}, 422, "something else"),
        ("shares", {"pixels": [[0.5, 1]]}, 422, "send round(255 * value)"),
        ("too light", {"pixels": [[0, 256]]}, 422, "from 0 to 256"),
        ("negative", {"pixels": [[-1]]}, 422, "from -1 to -1"),
        ("NaN", {"pixels": [[float("nan")]]}, 422, "something else"),
        ("infinity", {"pixels": [[float("inf")]]}, 422, "from inf to inf"),
        ("large", {"pixels": [[10**30]]}, 422, "something else"),
    ]
}  # fmt: skip


@pytest.mark.parametrize(("content", "kind", "status", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_image_is_refused_in_words(client, content, kind, status, text):
    answer = predict(client, content, kind)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert text in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"


def test_a_body_without_its_length_is_cut_off(client):
    taken = 0

    async def chunks():
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield b"x" * 2**20

    assert predict(client, chunks()).status_code == 413
    assert taken <= 18


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(app_module, "READ_SECONDS", 0.05)
    sent = []

    async def receive():
        await asyncio.sleep(5)

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"image/png")]
    scope = {"type": "http", "method": "POST", "path": "/api/predict", "query_string": b"", "headers": headers}
    asyncio.run(make_app(TRAINED)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert "within 0.05 seconds" in json.loads(sent[1]["body"])["error"]


@pytest.mark.parametrize("query", [{"layers": "yes"}, {"layer": "true"}, {"layers": "true", "x": "1"}])
def test_another_query_is_refused(client, query):
    answer = predict(client, DRAWN, **query)
    assert (answer.status_code, "layers=true" in answer.json()["error"]) == (422, True)


def test_other_ways_to_ask_are_refused(client):
    assert client.ask("GET", "/api/predict").status_code == 405
    assert client.ask("OPTIONS", "/api/predict").status_code == 405
    assert client.ask("GET", "/api/nothing").json() == {"error": "GET /api/nothing: Not Found"}
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/static/main.js"):
        assert client.ask("GET", path).status_code == 404


def test_too_many_requests_at_a_time_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(app_module, "IN_HAND", 1)
    entered, let_go = threading.Event(), threading.Event()

    def slow(*arguments):
        entered.set()
        assert let_go.wait(20)
        return real(*arguments)

    real = app_module.predict_images
    monkeypatch.setattr(app_module, "predict_images", slow)
    client = client_of()
    answers = []
    first = threading.Thread(target=lambda: answers.append(predict(client, DRAWN)))
    first.start()
    assert entered.wait(20)
    second = predict(client, DRAWN)
    let_go.set()
    first.join()
    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    assert answers[0].status_code == 200
    assert predict(client, DRAWN).status_code == 200


def test_what_fails_within_says_nothing_of_it(monkeypatch):
    def fail(*_):
        raise RuntimeError("a secret")

    monkeypatch.setattr(app_module, "predict_images", fail)
    answer = predict(client_of(), DRAWN)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"]


def test_a_net_of_nan_says_so():
    net = net_of(serial(flatten(), dense(2)), (4, 4, 1), ("a", "b"))
    params = tree.map(lambda leaf: np.full_like(leaf, np.nan), net.model.params)
    bad = attrs.evolve(net, model=Model(params, net.model.state))
    answer = predict(client_of(bad), DRAWN)
    assert (answer.status_code, "NaN" in answer.json()["error"]) == (500, True)


# --- Browsers and hosts ---------------------------------------------------------------------------------------

HOSTS = {
    "localhost": 200,
    "localhost:8000": 200,
    "LOCALHOST": 200,
    "127.0.0.1:80": 200,
    "[::1]:8000": 200,
    "192.168.1.7": 200,
    "evil.example": 421,
    "evil.example:8000": 421,
    "localhost.evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "": 421,
    "localhost@evil.example": 421,
    "mine.example": 200,
    "[::1].evil.example": 421,
    "[::1]:80:80": 421,
}


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_only_hosts_that_are_this_one_are_served(host, status):
    client = client_of(hosts=["Mine.Example"])
    for path in ("/", "/api/model"):
        answer = client.ask("GET", path, headers={"host": host})
        assert answer.status_code == status
    if status == 421:
        assert "is not served here" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/main.js", "/style.css", "/api/model", "/api/predict", "/nothing"])
def test_every_answer_keeps_browsers_from_other_sites(client, path):
    headers = client.ask("GET", path, headers={"origin": "https://evil.example"}).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control")]


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.ask("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"main.js", "style.css", "icon.svg"} <= set(files)
    texts = [page.text] + [
        client.ask("GET", f"/{each}").text for each in ("main.js", "answer.js", "drawing.js", "style.css")
    ]
    for text in texts:
        assert re.findall(r"https?://(?!www\.w3\.org)", text) == []
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page.text)
    for each in files:
        assert client.ask("GET", f"/{each}").status_code == 200


# --- Arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: None, "make_app: trained must be a Trained, as load_trained gives it, got None"),
        (partial(net_of, dense(2), (4,), ("a", "b")), r"make_app: it takes examples \(4,\), which are no images"),
        (
            partial(net_of, serial(flatten(), dense(2)), (4, 4, 1), ("a",)),
            "it gives outputs .* tells no images",
        ),
    ],
)
def test_what_tells_no_images_apart_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make_app(make())


def test_a_net_that_takes_no_bytes_is_refused_at_once():
    net = attrs.evolve(net_of(serial(flatten(), dense(2)), (4, 4, 1), ("a", "b")), preprocess=None)
    with pytest.raises(LayerError, match=r"got dtype uint8. Convert and scale it"):
        make_app(net)
