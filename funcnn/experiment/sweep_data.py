"""The data of a sweep's trials: named in every configuration, with a hash of the content, which each process checks."""

import functools
import os
from typing import Any, Protocol

from funcnn.data import DataError, Dataset
from funcnn.experiment.resume import data_hash
from funcnn.experiment.run import load_set
from funcnn.sweep.grid import Configuration

__all__ = ["data_axes", "sweep_data"]


class _Where(Protocol):
    """What the command line says of a sweep's data."""

    @property
    def data(self) -> str: ...
    @property
    def data_dir(self) -> str | None: ...
    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def channels(self) -> int | None: ...


def data_axes(options: _Where) -> dict[str, list[Any]]:
    """Axes of one value each that say which data a sweep is about: for `sweep_data`, and whoever reads its results.

    `data` is a set's name, or a folder with its whole path; `data_dir`, `image_size` and `channels` are there where
    they are given; `data_hash` tells the content. Raises DataError if the data cannot be loaded.
    """
    whole = os.path.abspath(options.data) if os.path.isdir(options.data) else options.data
    folder = None if options.data_dir is None else os.path.abspath(options.data_dir)
    dataset, found = _loaded(options.data, folder, options.size, options.channels)
    data = whole if dataset.source == whole else options.data
    others = {"data_dir": folder, "image_size": options.size, "channels": options.channels}
    given = {name: [value] for name, value in others.items() if value is not None}
    return {"data": [data], **given, "data_hash": [found]}


def sweep_data(config: Configuration) -> Dataset:
    """The data set that a sweep's configuration names, loaded once in a process.

    >>> from funcnn.sweep import configuration
    >>> sweep_data(configuration(lr=0.1, data="digits")).in_shape
    (8, 8, 1)

    Raises DataError for data that cannot be loaded, or of another content than the sweep was begun with.
    """
    settings = config.as_dict()
    size: Any = settings.get("image_size")
    dataset, found = _loaded(
        str(settings["data"]), settings.get("data_dir"), None if size is None else tuple(size), settings.get("channels")
    )
    expected = settings.get("data_hash", found)
    if found != expected:
        raise DataError(
            f"{dataset.source}: its content has the hash {found} here, and {expected} where the sweep was begun. Give "
            "this machine the same files, or begin anew with another --out"
        )
    return dataset


@functools.lru_cache(maxsize=1)
def _loaded(data: str, data_dir: Any, size: Any, channels: Any) -> tuple[Dataset, str | None]:
    dataset = load_set(data, data_dir=data_dir, size=size, channels=channels)
    return dataset, data_hash(dataset)
