"""
What the layers see
===================

A digit on its way through the first layers of the net `mnist_cnn`, which comes with the package: the eight kernels of
its convolution, the sums that each makes of the image (blue where positive, orange where negative), and what relu
leaves of them. Most light up along edges that face one way; nobody has told them to.
"""

import itertools

import numpy as np
from _save import INK, save, subplots
from matplotlib.colors import LinearSegmentedColormap

from funcnn.data.handwriting import centred_drawing
from funcnn.inspection import activations, first_filters
from funcnn.model_file import load_trained
from funcnn.trained import model_path

trained = load_trained(model_path("mnist_cnn"))
corners = np.array([(8, 40), (8, 16), (24, 14), (24, 30), (32, 40), (42, 38), (48, 26), (46, 14)])  # of a 5
row, column = np.mgrid[:56, :56]
ink = np.full((56, 56), np.inf)
for start, end in itertools.pairwise(corners):
    share = ((row - start[0]) * (end - start)[0] + (column - start[1]) * (end - start)[1]) / np.sum((end - start) ** 2)
    nearest = start[:, None, None] + np.clip(share, 0, 1) * (end - start)[:, None, None]
    ink = np.minimum(ink, np.hypot(row - nearest[0], column - nearest[1]))
drawing = centred_drawing()(np.where(ink < 2.5, 255, 0).astype(np.uint8)[..., None])[None]
x = trained.preprocess(drawing)
seen = activations(trained.net, trained.model.params, trained.model.state, x)
kernels = first_filters(trained.model.params, trained.in_shape)
print("the net says", trained.classes[int(seen["6"].argmax())])

signed = LinearSegmentedColormap.from_list("signed", ["#d66a28", "#ffffff", "#4063d8"])
figure, axes = subplots(3, 10, height=2.2)
for panel in axes[:, :2].flat:
    panel.remove()
sheet = figure.add_subplot(axes[0, 0].get_gridspec()[:, :2])
sheet.imshow(x[0, ..., 0])
sheet.set_title("the image", fontsize=10)
sheet.set(xticks=[], yticks=[])
sheet.spines[:].set_visible(True)
for line, name in zip(axes[:, 2:], ("kernel", "sum", "relu"), strict=True):
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
for k, column in enumerate(axes[:, 2:].T):
    for panel, image in zip(column, (kernels[..., 0, k], seen["0"][0, ..., k], seen["1"][0, ..., k]), strict=True):
        largest = np.abs(image).max()
        panel.imshow(image, cmap=signed, vmin=-largest, vmax=largest)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
save(figure, "inside")
