"""Pictures of nets that code images: images in rows, and where the codes of each class lie.

They give a figure, and write it to a file if they have a path, as those of `funcnn.report.pictures`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcnn.checks import as_array
from funcnn.report.figures import PathOrNone, add_title, as_title, picture
from funcnn.report.pictures import class_name, visible
from funcnn.settings import refuse
from funcnn.tree import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_images", "draw_latent", "principal_components"]

_ACROSS, _MOST, _GAP = 10, 100, 2  # images in a row, and in a picture, and pixels between them
_POINTS = 5000
_LARGEST = 1e100  # that matplotlib's axes reach, and whose square is finite


def draw_images(images: Array, path: PathOrNone = None, *, title: str = "", below: Array | None = None) -> "Figure":
    """Images in rows of ten, by numbers from 0 to 1, the first 100: images (n, height, width, channels).

    With `below`, as many images of the same shape, each of these stands under its own. Three channels are colours,
    others are drawn by their mean, in grey, 1 black. What is less than 0 or no number counts as 0, more than 1 as 1.

    >>> len(draw_images(np.zeros((3, 8, 8, 1))).axes)
    1

    Raises ValueError for no images, or arrays of other shapes.
    """
    images = as_array("draw_images", "images", images)
    if images.ndim != 4 or not images.size:
        refuse("draw_images", "images", "an array (n, height, width, channels), at least one image", images)
    kinds = [images]
    if below is not None:
        kinds.append(as_array("draw_images", "below", below))
        if kinds[1].shape != images.shape:
            refuse("draw_images", "below", f"an array {images.shape}, as the images are", below)
    images = images[:_MOST]
    shown = [[np.clip(np.nan_to_num(visible(image)), 0, 1) for image in each[:_MOST]] for each in kinds]
    height, width, *colours = shown[0][0].shape
    across = min(_ACROSS, len(images))
    down = -(-len(images) // across)
    apart = _GAP if below is None else 4 * _GAP  # between rows of images, or of pairs
    row, column = len(kinds) * (height + _GAP) - _GAP + apart, width + _GAP
    sheet = np.full((down * row - apart, across * column - _GAP, *colours), 1.0 if colours else 0.0)  # white
    for kind, each in enumerate(shown):
        for i, image in enumerate(each):
            top, left = i // across * row + kind * (height + _GAP), i % across * column
            sheet[top : top + height, left : left + width] = image
    size = 0.75 * across
    with picture(path, max(size, 3), size * sheet.shape[0] / sheet.shape[1] + (0.5 if title else 0.1)) as figure:
        add_title(figure, title)
        axes = figure.add_subplot()
        axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
    return figure


def draw_latent(
    codes: Array, labels: Array, classes: Sequence[object], path: PathOrNone = None, *, title: str = ""
) -> "Figure":
    """Each example's code as a point in its class's colour: codes (n, k), labels (n,), and the classes' names.

    Of codes of more than two numbers the first two principal components are drawn, and of more than 5,000 examples
    some, evenly spaced. Codes that are not finite are left out.

    >>> figure = draw_latent(np.eye(4)[:, :2], np.array([0, 0, 1, 1]), ("cat", "dog"))
    >>> len(figure.legends[0].get_texts())
    2

    Raises ValueError for codes of fewer than two numbers, fewer than two of them, or not as many labels as codes.
    """
    codes, labels = as_array("draw_latent", "codes", codes), as_array("draw_latent", "labels", labels)
    if codes.ndim != 2 or codes.shape[1] < 2 or len(codes) < 2:
        refuse("draw_latent", "codes", "an array (n, k), of at least two examples and two numbers", codes)
    if labels.shape != (len(codes),):
        refuse("draw_latent", "labels", f"an array ({len(codes)},), as there are codes", labels)
    sound = (np.abs(codes.astype(np.float64)) < _LARGEST).all(axis=1)
    codes, labels = codes[sound], labels[sound]
    names = ["first number of the code", "second number of the code"]
    if codes.shape[1] > 2:
        codes, shares = principal_components(codes, 2)
        names = [
            f"{which} principal component ({share:.0%} of the variance)"
            for which, share in zip(("first", "second"), shares, strict=True)
        ]
    numbers, place = np.unique(labels, return_inverse=True)
    drawn = np.linspace(0, len(codes) - 1, min(len(codes), _POINTS)).astype(int)
    with picture(path, 8.5, 6) as figure:
        from matplotlib import color_sequences

        colours = np.array(color_sequences["tab10" if len(numbers) <= 10 else "tab20"])
        axes: Any = figure.add_subplot()
        size = min(max(6000 / len(drawn), 6.0), 30.0) if len(drawn) else 6.0  # few points are drawn larger
        axes.scatter(*codes[drawn].T, c=colours[place[drawn] % len(colours)], s=size, alpha=0.6, linewidths=0)
        for i, number in enumerate(numbers[:20]):
            # A space, since matplotlib leaves names with a leading underscore out.
            axes.scatter([], [], color=colours[i], s=25, label=f" {class_name(classes, number, 24)}")
        figure.legend(loc="outside right upper", frameon=False)
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        axes.set_title(as_title(title, figure), fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def principal_components(rows: Array, count: int) -> tuple[Array, Array]:
    """The rows in the directions in which they vary most, and the share of the variance that each has.

    rows (n, k) -> (n, count), (count,), the largest first. Directions are the eigenvectors of the covariance matrix
    (Pearson 1901), of either sign: the one that makes the component that is largest positive.

    >>> principal_components(np.array([[1.0, 1.0], [3.0, 3.0]]), 1)
    (array([[-1.41421356],
           [ 1.41421356]]), array([1.]))

    Raises ValueError for more components than numbers in a row.
    """
    if rows.ndim != 2 or not 0 < count <= rows.shape[1]:
        refuse("principal_components", "count", f"from 1 to the numbers in a row of {rows.shape}", count)
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    variances, directions = variances[::-1], directions[:, ::-1]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.where(directions[largest, np.arange(len(variances))] < 0, -1.0, 1.0)
    total = variances.sum() or 1.0
    return centred @ directions[:, :count], variances[:count] / total
