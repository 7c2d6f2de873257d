"""The server: where it listens, how it ends, and the examples of docs/serve.md, run against it."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from drawings import drawing, plain
from servers import served

from funcnn.model_file import load_trained
from funcnn.trained import model_path

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from funcnn.web import serve  # noqa: E402
from funcnn.web.limits import BODY, IN_HAND, PIXELS, READ_SECONDS  # noqa: E402
from funcnn.web.schema import schema  # noqa: E402
from funcnn.web.server import _listening  # noqa: E402

DOCUMENT = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
DIGIT = io.BytesIO()
Image.fromarray(drawing(7, 0, plain)).save(DIGIT, "PNG")


def test_it_says_where_it_is_opens_the_browser_and_ends_on_ctrl_c():
    with served("digits_cnn", host="0.0.0.0", open_browser=True) as (process, url):
        assert url.startswith("http://localhost:")
        assert process.stdout.readline() == f"opened {url}\n"
        with urllib.request.urlopen(f"{url}api/model", timeout=20) as answer:
            assert json.load(answer)["name"] == "digits_cnn"
            assert answer.headers["server"] is None
        process.send_signal(signal.SIGINT)
        said, warned = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "ended\n")
    assert re.fullmatch(r"warning: it listens at 0\.0\.0\.0, where other machines can reach it: .*\n", warned)


@pytest.mark.filterwarnings("ignore:unclosed")  # urllib's own connections
def test_the_examples_of_the_document_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digit.png").write_bytes(DIGIT.getvalue())
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 2
    with served("mnist_cnn") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        for block in blocks:
            exec(compile(block.replace("http://127.0.0.1:8000/", url), "serve.md", "exec"), {})
        assert re.fullmatch(r"7 (1\.0|0\.99\d*)\n\(28, 28\)\n3\n", capsys.readouterr().out)
        curl = re.search(r"curl .*?\n(?=```)", DOCUMENT, re.DOTALL)[0].replace("127.0.0.1:8000", url.split("/")[2])
        for command in curl.replace("\\\n", "").strip().splitlines():
            answer = subprocess.run(command, shell=True, capture_output=True, timeout=20, check=True)
            assert isinstance(json.loads(answer.stdout), dict)
    assert process.returncode == 0


def test_the_document_has_the_limits_as_they_are():
    for number in (
        f"{BODY // 2**20} MiB",
        f"{PIXELS // 10**6} million pixels",
        f"{READ_SECONDS:g} seconds",
        f"{IN_HAND} ",
    ):
        assert number in DOCUMENT
    model = {"name": "x", "classes": ["a"], "prepare": None}
    fields = schema(model)["components"]["schemas"]
    for each in ("Prediction", "Stage"):
        for field in fields[each]["properties"]:
            assert f"`{field}`" in DOCUMENT
    for status in schema(model)["paths"]["/api/predict"]["post"]["responses"]:
        assert f"| {status} |" in DOCUMENT or status == "200"


def test_where_it_cannot_listen_it_says_what_to_do():
    trained = load_trained(model_path("digits_cnn"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"127\.0\.0\.1, port {port}: it is in use\. Choose another, {port + 1}, say, or 0"
        ):
            serve(trained, port=port)
    with pytest.raises(OSError, match=r"192\.0\.2\.1, port 0: this machine has no such address\. Choose 127\.0\.0\.1"):
        serve(trained, host="192.0.2.1", port=0)
    for host in ("256.0.0.1", "no such name", "a" * 80):
        with pytest.raises(OSError, match=r"port 0: no such address"):
            serve(trained, host=host, port=0)
    for port in (-1, 65536, True, "8000"):
        with pytest.raises(ValueError, match="serve: port must be a whole number from 0 to 65535"):
            serve(trained, port=port)


def test_an_answer_does_not_wait_for_its_first_part_to_be_acknowledged():
    with _listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_the_extra_it_says_what_to_install():
    program = (
        "import sys; sys.modules['starlette.applications'] = None\n"
        "from funcnn.web import make_app\n"
        "try: make_app(None)\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert 'pip install "funcnn[web]"' in run.stdout
