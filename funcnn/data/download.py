"""Downloads of the public sets' files into the user's cache: several addresses each, checksums, and no half files."""

import importlib.util
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from funcnn.data.formats import DataError

__all__ = ["SOURCES", "Source", "fetch"]

TRIES = 3  # of every address
PAUSE = 1.0  # seconds before an address is tried again, and twice as long before the third time
TIMEOUT = 20  # seconds without a byte after which a try has failed


@attrs.frozen
class Source:
    """A file of a set: its name, its checksum, the folders on the web that hold it; of an archive, the folder in it."""

    file: str
    checksum: str
    places: tuple[str, ...]
    unpacked: str | None = None


# The original host of MNIST refuses downloads; these two copies are those that PyTorch and TensorFlow's sets use.
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
_FASHION = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
)
_CIFAR = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
_NOTMNIST = ("http://yaroslavvb.com/upload/notMNIST", "https://commondatastorage.googleapis.com/books1000")

SOURCES: dict[str, tuple[Source, ...]] = {
    "mnist": tuple(
        Source(f"{file}-ubyte.gz", f"sha256:{checksum}", _MNIST)
        for file, checksum in {
            "train-images-idx3": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        }.items()
    ),
    "fashion_mnist": tuple(
        Source(f"{file}-ubyte.gz", f"sha256:{checksum}", _FASHION)
        for file, checksum in {
            "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        }.items()
    ),
    "cifar10": (
        Source("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530", _CIFAR, "cifar-10-batches-bin"),
    ),
    "notmnist": (Source("notMNIST_small.tar.gz", "md5:c9890a473a9769fda4bdf314aaf500dd", _NOTMNIST, "notMNIST_small"),),
}


def fetch(name: str) -> Path:
    """The folder in the user's cache with a set's files, of which those that are missing or damaged are downloaded.

    Archives are unpacked there. Every address is tried a few times, then the next one; a file that is not what it
    should be, to its checksum, is thrown away. Files and folders appear whole or not at all, so that several processes
    may fetch the same set. Raises DataError that names each address and why it failed, and what else can be done.
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
            there = (folder / (source.unpacked or source.file)).exists()
            if not there:  # or else a cache that cannot be written to will do
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()  # fails here, before every address is tried in vain
            if source.unpacked is None:
                _download(pooch, source, folder)  # a file that is there is only compared with its checksum
            elif not there:
                _download_archive(pooch, source, folder)
    except (DataError, OSError) as error:
        raise DataError(f"{name}: {error}\n{by_hand}") from error
    return folder


def _download(pooch: Any, source: Source, folder: Path) -> Path:
    """A file in a folder, from the first address that gives it; pooch writes it beside, and moves it if it is right."""
    bar = importlib.util.find_spec("tqdm") is not None and sys.stderr.isatty()
    downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT, chunk_size=1 << 16)
    failures = []
    for url in (f"{place}/{source.file}" for place in source.places):
        for i in range(TRIES):
            try:
                return Path(pooch.retrieve(url, source.checksum, source.file, folder, downloader=downloader))
            except (OSError, ValueError) as error:  # ValueError: another checksum
                failure = str(error)  # the error itself would keep the connection
            if i < TRIES - 1:
                time.sleep(PAUSE * 2**i)
        failures.append(f"\n  {url}: {failure}")
    raise DataError(f"{source.file} could not be downloaded; each address was tried {TRIES} times:{''.join(failures)}")


def _download_archive(pooch: Any, source: Source, folder: Path) -> None:
    """Unpack an archive's one folder beside the place where it belongs, and then move it there."""
    assert source.unpacked is not None
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as beside:
        archive = _download(pooch, source, Path(beside))
        try:
            with tarfile.open(archive) as tar:
                inside = [each for each in tar if PurePosixPath(each.name).parts[:1] == (source.unpacked,)]
                tar.extractall(beside, inside, filter="data")  # refuses what would lead out of the folder
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{source.file} cannot be unpacked: {error}") from error
        if not inside:
            raise DataError(f"{source.file} cannot be unpacked: it holds no folder {source.unpacked}")
        try:
            Path(beside, source.unpacked).rename(folder / source.unpacked)
        except OSError:
            if not (folder / source.unpacked).is_dir():  # else another process was faster, with the same files
                raise
