"""
Augmentations
=============

The same six digits under five augmentations, with two draws of one of them. Each is a pure function of images and a
key: the same key gives the same images. In training every step has a key of its own, so a net hardly ever sees the same
image twice. Which of them keep the class depends on the data: a mirrored 3 is no 3.
"""

from _save import INK, save, subplots

from funcnn import Key
from funcnn.data import load
from funcnn.data.affine import random_affine, random_rotation
from funcnn.data.augment import cutout, flip_horizontally, random_erasing

images, labels = load("digits").train.take(slice(6))
rows = {
    "as stored": (None, 0),
    "rotation, key 0": (random_rotation(25), 0),
    "rotation, key 1": (random_rotation(25), 1),
    "affine": (random_affine(10, scale=(0.8, 1.2), shift=0.15), 0),
    "cutout": (cutout(3), 0),
    "erasing": (random_erasing(1.0), 0),
    "mirrored": (flip_horizontally, 2),
}
figure, axes = subplots(len(rows), len(images), height=6)
for row, (name, (augment, seed)) in zip(axes, rows.items(), strict=True):
    changed = images if augment is None else augment(images, Key(seed))
    row[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
    for panel, image in zip(row, changed[..., 0], strict=True):
        panel.imshow(image, vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.spines[["top", "right"]].set_visible(True)
save(figure, "augmentations")
