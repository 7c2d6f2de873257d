"""Data sets: `load` by name, `load_folder` of images of your own, and what they are made of."""

from funcnn.data.augment import flip_horizontally, shifted_crop
from funcnn.data.dataset import Dataset, Part, stratified_split
from funcnn.data.folders import read_class_folders, read_images
from funcnn.data.load import DataError, load, load_folder
from funcnn.data.preprocess import one_hot, rescale, standardise, subtract_mean_image, unit_norm

__all__ = [
    "DataError", "Dataset", "Part", "flip_horizontally", "load", "load_folder", "one_hot", "read_class_folders",
    "read_images", "rescale", "shifted_crop", "standardise", "stratified_split", "subtract_mean_image", "unit_norm",
]  # fmt: skip
