"""What an analysis of the Gaussian toy is given."""

import pytest
import toy_analyses


@pytest.fixture(scope="module")
def inputs():
  return toy_analyses.inputs()
