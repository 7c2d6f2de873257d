"""Data sets: `load` by name, and what they are made of."""

from funcnn.data.dataset import Dataset, Part, rescale, standardise, stratified_split
from funcnn.data.load import DataError, load

__all__ = ["DataError", "Dataset", "Part", "load", "rescale", "standardise", "stratified_split"]
