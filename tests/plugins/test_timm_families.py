"""The tracer's graph of the smallest network of each of timm's modules is proven, and says nearly all that is true."""

from __future__ import annotations

import pytest
from timm_networks import NETWORKS, network

from ninokit.graph import trace
from ninokit.testing import check_encoding

timm = pytest.importorskip("timm")

MOST = 0.9  # of the parameters some permutation moves


@pytest.mark.parametrize("module", NETWORKS)
def test_the_traced_graph_is_proven(module):
    if not timm.is_model(NETWORKS[module][0]):
        pytest.skip(f"this version of timm has no {NETWORKS[module][0]}")
    model, images = network(module)
    check_encoding(model, images, trace(model, images), draws=1, min_share=MOST)
