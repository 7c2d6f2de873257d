"""Data sets: of your own arrays, images and texts, `load` by name, and what they are made of.

`Dataset.from_arrays`, `load_folder` and `load_text` take your own.
"""

from funcnn.data.affine import random_affine, random_rotation
from funcnn.data.augment import (
    color_jitter,
    cutout,
    flip_horizontally,
    random_erasing,
    random_grayscale,
    shifted_crop,
)
from funcnn.data.dataset import Dataset, Part, stratified_split
from funcnn.data.folders import read_class_folders, read_images
from funcnn.data.handwriting import NothingDrawn, centred_drawing
from funcnn.data.load import DataError, load, load_folder
from funcnn.data.mixing import cutmix, mixup
from funcnn.data.preprocess import one_hot, rescale, standardise, subtract_mean_image, unit_norm
from funcnn.data.text import Windows, load_text

__all__ = [
    "DataError", "Dataset", "NothingDrawn", "Part", "Windows", "centred_drawing", "color_jitter", "cutmix",
    "cutout", "flip_horizontally", "load", "load_folder", "load_text", "mixup", "one_hot", "random_affine",
    "random_erasing", "random_grayscale", "random_rotation", "read_class_folders", "read_images", "rescale",
    "shifted_crop", "standardise", "stratified_split", "subtract_mean_image", "unit_norm",
]  # fmt: skip
