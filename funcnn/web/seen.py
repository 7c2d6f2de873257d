"""What a net sees, as pictures: the image that it is given, and what its first layers make of it."""

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from funcnn.inspection import activations
from funcnn.model_file import Trained
from funcnn.tree import Array

__all__ = ["MAPS", "STAGES", "Stage", "png", "stages"]

STAGES = 3  # the first ones
MAPS = 16  # of a stage, the first ones
_WHITE = 0.99  # the share of values that are not beyond white: a single peak would leave the rest in the dark


@attrs.frozen(eq=False)
class Stage:
    """What a run of layers gives for one image: the last one's path, all of them, its output's shape, and maps of it.

    `maps` are (count, height, width) bytes, black for `lowest`, the least of the values shown, and white for `highest`,
    their 99th percentile, and more.
    """

    path: str
    layers: tuple[str, ...]
    shape: tuple[int, ...]
    lowest: float
    highest: float
    maps: Array

    def as_json(self) -> dict[str, Any]:
        """As the API gives it, the maps as PNG files in base64."""
        values = attrs.asdict(self, recurse=False)
        return values | {
            "layers": list(self.layers),
            "shape": list(self.shape),
            "maps": [png(each) for each in self.maps],
        }


def stages(trained: Trained, names: Mapping[str, str], stored: Array) -> list[Stage]:
    """The first stages of a net for a stored image of `in_shape`, `STAGES` at most, given its layers' texts by path.

    A stage is a run of layers whose outputs have one shape, a convolution with its norm and its activation, say, and
    shows what the last of them gives: feature maps, or the units of a dense layer as one image that is nearly square.
    What only reshapes is none, nor are the outputs.
    """
    inputs = stored[None] if trained.preprocess is None else trained.preprocess(stored[None])
    seen = activations(trained.net, trained.model.params, trained.model.state, inputs)
    runs: list[dict[str, Array]] = []
    last = inputs[0]
    for path, outputs in seen.items():
        if not isinstance(outputs, np.ndarray) or any(each in seen for each in _above(path)):
            continue  # it gives several, or is within a layer that is shown
        values = outputs[0]
        if runs and values.shape == last.shape:
            runs[-1][path] = values
        elif values.ndim in (1, 3) and not (values.ndim < last.ndim and values.size == last.size):
            runs.append({path: values})
        last = values
    if runs and last.shape == (len(trained.classes),):
        runs.pop()
    return [_as_stage(run, names) for run in runs[:STAGES]]


def _above(path: str) -> list[str]:
    """The paths of what a layer may be in: of "2.0.1", "2" and "2.0"."""
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _as_stage(run: Mapping[str, Array], names: Mapping[str, str]) -> Stage:
    path, values = list(run.items())[-1]
    maps = _as_square(values)[None] if values.ndim == 1 else np.moveaxis(values, -1, 0)[:MAPS]
    maps = maps.astype(np.float64)
    lowest, highest = float(maps.min()), float(np.quantile(maps, _WHITE))
    scaled = ((maps - lowest) * (255 / max(highest - lowest, 1e-12))).clip(0, 255)
    layers = tuple([names[each] for each in run])
    return Stage(path, layers, values.shape, lowest, highest, np.rint(scaled).astype(np.uint8))


def _as_square(units: Array) -> Array:
    """Units in rows, as many as there are in a row if it can be; what is left of the last row has the lowest value."""
    width = math.ceil(math.sqrt(len(units)))
    height = math.ceil(len(units) / width)
    padded = np.pad(units, (0, height * width - len(units)), constant_values=units.min())
    return padded.reshape(height, width)


def png(image: Array) -> str:
    """An image of bytes (height, width) or (height, width, 1 or 3) as a PNG file in base64."""
    from PIL import Image  # an image was read, so it is there

    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()
