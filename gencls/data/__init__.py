"""Labelled images: where they come from, how they are split, in which order they are visited."""

from gencls.data.batching import batches
from gencls.data.dataset import Dataset, class_frequencies, to_float
from gencls.data.load import BUILT_IN, load, on_disk
from gencls.data.splits import describe_split

__all__ = [
  "BUILT_IN",
  "Dataset",
  "batches",
  "class_frequencies",
  "describe_split",
  "load",
  "on_disk",
  "to_float",
]
