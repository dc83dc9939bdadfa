"""The attack of `toy_minimum` under a name."""

import pytest
from toy_minimum import line

import gencls.attacks


@pytest.fixture(scope="module")
def registered_line():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(gencls.attacks.REGISTRY, "line", line)
    yield
