"""Downloads from a server of our own: what arrives whole is used, what does not is tried again and leaves nothing."""

import contextlib
import hashlib
import io
import os
import sys
import tarfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs
import numpy as np
import pytest

from funcnn.data import DataError, download, load
from funcnn.data.download import SOURCES, Source, fetch

pooch = pytest.importorskip("pooch")


@attrs.frozen
class Answer:
    """What the server says to a request; `promised` is the length it announces."""

    body: bytes = b""
    status: int = 200
    promised: int | None = None


class Server:
    """Answers to each path, in order, the last one for ever; every request is noted."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = defaultdict(lambda: [Answer(status=404)])
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                answers = server.answers[self.path]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(answer.status)
                self.send_header("Content-Length", str(answer.promised or len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server, and no wait, no proxy, no files but those of an empty cache."""
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("FUNCNN_DATA", raising=False)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def idx(values: list[int], *shape: int) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in (len(values), *shape))
    return bytes([0, 0, 8, 1 + len(shape)]) + sizes + bytes(values)


TRAIN, TEST = [i % 10 for i in range(5010)], [i % 10 for i in range(20)]
MNIST = {
    "train-images-idx3-ubyte": idx(TRAIN, 1, 1),
    "train-labels-idx1-ubyte": idx(TRAIN),
    "t10k-images-idx3-ubyte": idx(TEST, 1, 1),
    "t10k-labels-idx1-ubyte": idx(TEST),
}
FIRST = "train-images-idx3-ubyte"
WHOLE = MNIST[FIRST]


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server with a small MNIST on two mirrors, /one and /two."""
    places = (f"{server.address}/one", f"{server.address}/two")
    sources = tuple(Source(file, len(body), sha256(body), places) for file, body in MNIST.items())
    monkeypatch.setitem(SOURCES, "mnist", sources)
    for file, body in MNIST.items():
        server.answers[f"/one/{file}"] = [Answer(body)]
        server.answers[f"/two/{file}"] = [Answer(body)]
    return server


def left(folder: Path) -> list[str]:
    """Every file in a folder and below, by name."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- Files ----------------------------------------------------------------------------------------------------


def test_a_set_is_downloaded_once(mnist: Server, tmp_path: Path) -> None:
    for _ in range(2):
        data = load("mnist")
        assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 5000, 20]
        assert (data.test.inputs[:, 0, 0, 0] == data.test.targets).all()
    assert mnist.requests == [f"/one/{file}" for file in MNIST]
    assert left(tmp_path) == sorted(MNIST)


FAILURES = {
    "not found": Answer(b"not here", 404),
    "server error": Answer(b"not now", 500),
    "another checksum": Answer(WHOLE[:-1] + b"?"),
    "cut transfer": Answer(WHOLE[:1000], promised=len(WHOLE)),
    "too much": Answer(WHOLE + b"?"),
    "nothing": Answer(),
}
each_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)


@each_failure
def test_what_fails_is_tried_again(failure: Answer, mnist: Server, tmp_path: Path) -> None:
    mnist.answers[f"/one/{FIRST}"] = [failure, failure, Answer(WHOLE)]
    assert (fetch("mnist") / FIRST).read_bytes() == WHOLE
    assert mnist.requests[:3] == [f"/one/{FIRST}"] * 3
    assert left(tmp_path) == sorted(MNIST)


@each_failure
def test_what_goes_on_failing_is_taken_from_the_next_mirror(failure: Answer, mnist: Server, tmp_path: Path) -> None:
    mnist.answers[f"/one/{FIRST}"] = [failure]
    assert (fetch("mnist") / FIRST).read_bytes() == WHOLE
    assert mnist.requests[:4] == [f"/one/{FIRST}"] * 3 + [f"/two/{FIRST}"]
    assert left(tmp_path) == sorted(MNIST)


@each_failure
def test_when_everything_fails_every_address_is_named_and_nothing_is_left(
    failure: Answer, mnist: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist.answers[f"/one/{FIRST}"] = [failure]
    mnist.answers[f"/two/{FIRST}"] = [failure]
    with pytest.raises(DataError) as caught:
        load("mnist")
    head, one, two, advice = str(caught.value).split("\n")
    assert head == f"mnist: {FIRST} could not be downloaded; each address was tried 3 times:"
    for line, place in ((one, "one"), (two, "two")):
        assert line.startswith(f"  {mnist.address}/{place}/{FIRST}: ")
        assert str(failure.status) in line or failure.status == 200
    assert left(tmp_path) == []
    assert advice == (
        f"Put {', '.join(MNIST)} in a folder, and pass it as data_dir (--data-dir) or in the environment variable "
        "FUNCNN_DATA"
    )
    folder = tmp_path / "by hand"
    folder.mkdir()
    for file, body in MNIST.items():
        (folder / file).write_bytes(body)
    assert len(load("mnist", data_dir=folder).test) == 20
    monkeypatch.setenv("FUNCNN_DATA", str(folder))
    assert len(load("mnist").test) == 20


def test_reasons_are_told(mnist: Server) -> None:
    mnist.answers[f"/one/{FIRST}"] = [Answer(b"nonsense")]
    mnist.answers[f"/two/{FIRST}"] = [Answer(b"gone", 404)]
    with pytest.raises(DataError, match=r"(?s)/one/.*hash of downloaded file.*does not match.*/two/.*404.*Not Found"):
        fetch("mnist")


def test_a_server_that_is_not_there_is_told(mnist: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Source(FIRST, 1, "sha256:0", ("http://127.0.0.1:1",))
    monkeypatch.setitem(SOURCES, "mnist", (nowhere,))
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:1/train-images-idx3-ubyte: .*refused"):
        fetch("mnist")


def test_pauses_grow(mnist: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download, "PAUSE", 0.5)
    monkeypatch.setattr("time.sleep", pauses.append)
    mnist.answers[f"/one/{FIRST}"] = [Answer(status=500)]
    fetch("mnist")
    assert pauses == [0.5, 1.0]


def test_damage_in_the_cache_is_mended(mnist: Server) -> None:
    path = fetch("mnist") / FIRST
    path.write_bytes(WHOLE[:100])
    mnist.requests.clear()
    fetch("mnist")
    assert path.read_bytes() == WHOLE
    assert mnist.requests == [f"/one/{FIRST}"]


def test_no_more_is_taken_than_the_file_has(mnist: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server would send a gigabyte: the connection is closed after the first piece that is too much."""
    sent: list[int] = []

    def do_get(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                sent.append(handler.wfile.write(bytes(2**20)))

    monkeypatch.setattr(mnist.http.RequestHandlerClass, "do_GET", do_get)
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(DataError, match=rf"it sends more than the {len(WHOLE):,} bytes that the file has"):
        fetch("mnist")
    assert sum(sent) < 50 * 2**20
    assert left(tmp_path) == []


def test_what_a_killed_download_left_is_removed_a_day_later(mnist: Server, tmp_path: Path) -> None:
    folders = [tmp_path / "cache" / "mnist" / f".download-{name}" for name in ("old", "new")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"half a file")
    os.utime(folders[0], (0, time.time() - download.LEFT - 60))
    fetch("mnist")
    assert left(tmp_path) == sorted([*MNIST, "part"])
    assert [folder.exists() for folder in folders] == [False, True]


def test_two_downloads_at_once_do_no_harm(mnist: Server, tmp_path: Path) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(fetch("mnist"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4
    assert left(tmp_path) == sorted(MNIST)
    assert (folders[0] / FIRST).read_bytes() == WHOLE


@pytest.mark.parametrize(("terminal", "shown"), [(True, True), (False, False)])
def test_a_terminal_shows_a_progress_bar(
    terminal: bool, shown: bool, mnist: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    fetch("mnist")
    assert ("100%" in stream.getvalue()) == shown


# --- The order of places --------------------------------------------------------------------------------------


def test_a_folder_that_is_given_and_has_no_files_is_not_made_up_for(mnist: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leave out data_dir"):
        load("mnist", data_dir=tmp_path)
    assert mnist.requests == []
    assert len(load("mnist").test) == 20  # its advice


def test_a_folder_of_the_environment_without_the_set_is_passed_over(
    mnist: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("", str(tmp_path), str(tmp_path / "none")):
        monkeypatch.setenv("FUNCNN_DATA", folder)
        assert len(load("mnist").test) == 20
    (tmp_path / FIRST).write_bytes(WHOLE)
    monkeypatch.setenv("FUNCNN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"lacks train-labels-idx1-ubyte, .*: put them there, or remove the others"):
        load("mnist")


def test_without_pooch_the_ways_out_are_told(mnist: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError) as caught:
        load("mnist")
    for part in ("mnist: ", 'pip install "funcnn[data]"', *MNIST, "data_dir (--data-dir)", "FUNCNN_DATA"):
        assert part in str(caught.value)
    assert mnist.requests == []


def test_a_cache_that_cannot_be_made_is_named(mnist: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    with pytest.raises(DataError, match=rf"^mnist: .*Not a directory.*cache.*\nPut {FIRST}, "):
        load("mnist")


# --- Archives -------------------------------------------------------------------------------------------------


def archive(members: dict[str, bytes], link: str = "") -> bytes:
    """An archive of files, or of links to one place."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, body in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            tar.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


def serve_cifar(server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    source = attrs.evolve(SOURCES["cifar10"][0], size=len(body), checksum=sha256(body), places=(server.address,))
    monkeypatch.setitem(SOURCES, "cifar10", (source,))
    server.answers[f"/{source.file}"] = [Answer(body)]


CIFAR = {
    f"cifar-10-batches-bin/{name}.bin": (bytes([7]) + bytes(3072)) * 1010
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
}


def test_an_archive_is_unpacked_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_cifar(
        server, archive({**CIFAR, "elsewhere/file": b"", "./cifar-10-batches-bin/readme.html": b""}), monkeypatch
    )
    for _ in range(2):
        data = load("cifar10")
        assert [len(part) for part in (data.train, data.validation, data.test)] == [50, 5000, 1010]
    assert server.requests == ["/cifar-10-binary.tar.gz"]
    assert left(tmp_path) == sorted(["readme.html", *(Path(name).name for name in CIFAR)])
    assert [path.name for path in (tmp_path / "cache" / "cifar10").iterdir()] == ["cifar-10-batches-bin"]


BAD = {
    "no archive": b"nonsense",
    "cut": archive({"cifar-10-batches-bin/data": np.random.default_rng(0).bytes(50_000)})[:20_000],
    "out of the folder": archive({"cifar-10-batches-bin/../../../outside": b""}),
    "another folder": archive({"cifar-10-batches-py/data_batch_1": b""}),
    "a file in the folder's place": archive({"cifar-10-batches-bin": b""}),
    "a link out of the folder": archive({"cifar-10-batches-bin/data": b""}, link="/etc/passwd"),
    "more than it may unpack to": archive({"cifar-10-batches-bin/data": bytes(2_000_000), "beside": bytes(1_000_000)}),
    "more files than it may have": archive({f"cifar-10-batches-bin/{i}": b"" for i in range(101)}),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_bad_archive_leaves_nothing(
    body: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar(server, body, monkeypatch)
    monkeypatch.setattr(download, "UNPACKED", 2_500_000)
    monkeypatch.setattr(download, "MEMBERS", 100)
    wanted = (
        r"^cifar10: cifar-10-binary\.tar\.gz cannot be unpacked: (?s:.*)\nPut the unpacked cifar-10-binary\.tar\.gz in"
    )
    with pytest.raises(DataError, match=wanted):
        load("cifar10")
    assert list((tmp_path / "cache" / "cifar10").iterdir()) == []
    assert left(tmp_path) == []


def test_an_archive_that_another_process_unpacked_meanwhile_is_left_as_it_is(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar(server, archive(CIFAR), monkeypatch)
    theirs = tmp_path / "cache" / "cifar10" / "cifar-10-batches-bin"
    replace = Path.replace

    def slower(path: Path, target: Path) -> Path:
        theirs.mkdir()
        (theirs / "theirs").write_text("")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", slower)
    fetch("cifar10")
    assert left(tmp_path) == ["theirs"]
    with pytest.raises(DataError, match="remove this folder, and load it again"):
        load("cifar10")


# --- What is downloaded ---------------------------------------------------------------------------------------


def test_every_file_has_two_addresses_a_size_and_a_checksum() -> None:
    """What comes without encryption comes last, and is held against a strong checksum."""
    assert set(SOURCES) == {"mnist", "fashion_mnist", "cifar10", "notmnist", "tinyshakespeare"}
    for source in (source for sources in SOURCES.values() for source in sources):
        assert len(set(source.places)) == 2
        assert 4_000 < source.size < 200_000_000
        kind, checksum = source.checksum.split(":")
        assert len(bytes.fromhex(checksum)) == hashlib.new(kind).digest_size
        assert source.places[0].startswith("https://")
        assert kind == "sha256" or all(place.startswith("https://") for place in source.places)
