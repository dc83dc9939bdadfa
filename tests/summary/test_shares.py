"""Shares of draws in few characters."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencls.summary import shares


@given(st.integers(1, 300), st.data())
def test_what_is_packed_comes_back(draws, data):
  counts = np.array(data.draw(st.lists(st.integers(0, draws), max_size=40)), np.int64)
  values = (counts / draws).astype(np.float32)  # as cells hold them
  packed = json.loads(json.dumps(shares.pack(values, draws)))
  np.testing.assert_array_equal(shares.unpack(packed), counts / draws)


def test_a_thousand_images_right_or_wrong_are_168_characters():
  assert len(shares.pack(np.arange(1000) % 3 == 0, 1)["counts"]) == 168


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, np.nan])
def test_what_is_no_share_is_refused(value):
  with pytest.raises(ValueError, match="not all values are shares of 1 draws"):
    shares.pack(np.array([0.0, value]), 1)


@pytest.mark.parametrize(
  ("changed", "said"),
  [
    ({"images": 9}, "1 bytes are not the counts of 9 images in 1 draws"),
    ({"draws": 2, "images": 4, "counts": "/w=="}, "a count is more than 2 draws"),
    ({"counts": "?"}, "padding|base64|character"),
  ],
)
def test_a_damaged_field_is_refused(changed, said):
  with pytest.raises(ValueError, match=said):
    shares.unpack({**shares.pack(np.ones(8), 1), **changed})
