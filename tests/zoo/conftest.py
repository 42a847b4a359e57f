from __future__ import annotations

import pytest
from hand_made_cards import make_card

from ninokit.nowcasters import Wnn
from ninokit.zoo import Card


@pytest.fixture
def card() -> Card:
    return make_card()


@pytest.fixture
def wnn() -> Wnn:
    return Wnn(hidden=8, context=3, max_horizon=7)
