"""What tests of the executor's parts share."""

from __future__ import annotations

import pytest
from left_run import Left


@pytest.fixture
def left() -> Left:
    return Left()
