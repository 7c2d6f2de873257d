"""Downloads of the public sets' files into the user's cache: several addresses each, checksums, and no half files."""

import contextlib
import importlib.util
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import attrs

from funcnn.data.formats import DataError

__all__ = ["SOURCES", "Source", "fetch"]

TRIES = 3  # of every address
PAUSE = 1.0  # seconds before an address is tried again, and twice as long before the third time
TIMEOUT = 20  # seconds without a byte after which a try has failed
UNPACKED = 512 * 2**20  # bytes that an archive may unpack to: those of CIFAR-10 are 184 million
MEMBERS = 50_000  # files in an archive
LEFT = 86_400  # seconds after which a download that has not ended is taken for one that was killed

_BESIDE = ".download-"


@attrs.frozen
class Source:
    """A file of a set: name, size and checksum, the folders on the web that hold it; of an archive, the folder in it.

    No more than `size` bytes are taken from an address.
    """

    file: str
    size: int
    checksum: str
    places: tuple[str, ...]
    unpacked: str | None = None


# The original host of MNIST refuses downloads; PyTorch and TensorFlow use these two copies.
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
_FASHION = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
_CIFAR = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
_NOTMNIST = ("https://commondatastorage.googleapis.com/books1000", "https://storage.googleapis.com/books1000")

SOURCES: dict[str, tuple[Source, ...]] = {
    "mnist": tuple(
        Source(f"{file}-ubyte.gz", size, f"sha256:{checksum}", _MNIST)
        for file, size, checksum in (
            ("train-images-idx3", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            ("train-labels-idx1", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            ("t10k-images-idx3", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            ("t10k-labels-idx1", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        )
    ),
    "fashion_mnist": tuple(
        Source(f"{file}-ubyte.gz", size, f"sha256:{checksum}", _FASHION)
        for file, size, checksum in (
            ("train-images-idx3", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            ("train-labels-idx1", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        )
    ),
    "cifar10": (
        Source(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            _CIFAR,
            "cifar-10-batches-bin",
        ),
    ),
    "tinyshakespeare": (
        Source(
            "input.txt",
            1_115_394,
            "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            (
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare",
                "https://raw.githubusercontent.com/karpathy/ng-video-lecture/master",
            ),
        ),
    ),
    # Only an MD5 is known of it. Two files of one MD5 can be made, another file of this one's cannot.
    "notmnist": (
        Source("notMNIST_small.tar.gz", 8_458_043, "md5:c9890a473a9769fda4bdf314aaf500dd", _NOTMNIST, "notMNIST_small"),
    ),
}


def fetch(name: str) -> Path:
    """The folder in the user's cache with a set's files; those that are missing or damaged are downloaded first.

    Archives are unpacked there. Every address is tried a few times, then the next one; a file with another checksum is
    thrown away. Files and folders appear whole or not at all, so that several processes may fetch the same set; what a
    killed one left is removed a day later. Raises DataError that names each address and why it failed, and what else
    can be done.
    """
    by_hand = (
        f"Put {', '.join(('the unpacked ' if each.unpacked else '') + each.file for each in SOURCES[name])} in a "
        "folder, and pass it as data_dir (--data-dir) or in the environment variable FUNCNN_DATA"
    )
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            f'{name}: to download it needs pooch, which is not installed: pip install "funcnn[data]". Or: {by_hand}'
        ) from error
    folder = Path(pooch.os_cache("funcnn")) / name
    try:
        for source in SOURCES[name]:
            if not _is_there(pooch, source, folder):  # or else a cache that cannot be written to will do
                folder.mkdir(parents=True, exist_ok=True)
                _remove_what_was_left(folder)
                with tempfile.TemporaryDirectory(dir=folder, prefix=_BESIDE) as beside:
                    file = _download(pooch, source, Path(beside))
                    _move(_unpack(source, file) if source.unpacked else file, folder)
    except (DataError, OSError) as error:
        raise DataError(f"{name}: {error}\n{by_hand}") from error
    return folder


def _is_there(pooch: Any, source: Source, folder: Path) -> bool:
    """Whether a file is in the cache, with its checksum, or an archive's folder."""
    if source.unpacked:
        return (folder / source.unpacked).is_dir()
    path = folder / source.file
    kind, checksum = source.checksum.split(":")
    return path.is_file() and pooch.file_hash(str(path), kind) == checksum


def _remove_what_was_left(folder: Path) -> None:
    for old in folder.glob(f"{_BESIDE}*"):
        with contextlib.suppress(OSError):  # it may be another process's, and gone by now
            if time.time() - old.lstat().st_mtime > LEFT:
                shutil.rmtree(old)


def _move(path: Path, folder: Path) -> None:
    """Move a file or folder to its place; if another process was faster, its folder stays."""
    try:
        path.replace(folder / path.name)
    except OSError:
        if not (folder / path.name).is_dir():
            raise


# --- Downloading ----------------------------------------------------------------------------------------------


def _download(pooch: Any, source: Source, folder: Path) -> Path:
    """A file in a folder, from the first address that gives it whole."""
    bar = importlib.util.find_spec("tqdm") is not None and _is_terminal(sys.stderr)
    http = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT, chunk_size=1 << 16)

    def downloader(url: str, path: str, _: Any) -> None:
        with open(path, "wb") as file:
            http(url, _Bounded(file, source.size), None)

    failures = []
    for url in (f"{place}/{source.file}" for place in source.places):
        for i in range(TRIES):
            try:
                return Path(pooch.retrieve(url, source.checksum, source.file, folder, downloader=downloader))
            except (OSError, ValueError) as error:  # ValueError: another size or checksum
                failure = str(error)  # the error itself would keep the connection
            if i < TRIES - 1:
                time.sleep(PAUSE * 2**i)
        failures.append(f"\n  {url}: {failure}")
    raise DataError(f"{source.file} could not be downloaded; each address was tried {TRIES} times:{''.join(failures)}")


def _is_terminal(stream: Any) -> bool:
    """Whether a bar can be drawn on a stream, which may be missing or be anything that has a `write`."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


class _Bounded:
    """A file that takes so many bytes and no more."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._left = file, size, size

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"it sends more than the {self._size:,} bytes that the file has")
        self._file.write(data)

    def flush(self) -> None:
        """Pooch asks for it after every piece; the file is closed soon."""


# --- Unpacking ------------------------------------------------------------------------------------------------


def _unpack(source: Source, archive: Path) -> Path:
    """Unpack an archive's one folder beside it; DataError if it is damaged, too large, or leads out of the folder."""
    folder = archive.parent / str(source.unpacked)
    try:
        with tarfile.open(archive) as tar:
            inside, size = [], 0
            for count, each in enumerate(tar):
                size += max(each.size, 0)
                if size > UNPACKED or count >= MEMBERS:
                    raise DataError(f"it has more than {UNPACKED:,} bytes or {MEMBERS:,} files")
                if PurePosixPath(each.name).parts[:1] == (source.unpacked,):
                    inside.append(each)
            tar.extractall(archive.parent, inside, filter="data")  # refuses what would lead out of the folder
        if not folder.is_dir():
            raise DataError(f"it holds no folder {source.unpacked}")
    except Exception as error:  # damaged bytes lead tarfile to exceptions of many kinds
        raise DataError(f"{source.file} cannot be unpacked: {error}") from error
    return folder
