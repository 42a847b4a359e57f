"""The tracer's graph of the smallest network of each of timm's modules is proven, and says nearly all that is true."""

from __future__ import annotations

import pytest
from timm_networks import NETWORKS, network

from ninokit.graph import trace
from ninokit.testing import check_encoding

timm = pytest.importorskip("timm")

MOST = 0.9  # of the parameters some permutation moves, but of these modules

SHORTFALLS: dict[str, float] = {}


@pytest.mark.parametrize("module", NETWORKS)
def test_the_traced_graph_is_proven(module):
    if not timm.is_model(NETWORKS[module][0]):
        pytest.skip(f"this version of timm has no {NETWORKS[module][0]}")
    model, images = network(module)
    graph = trace(model, images)
    check_encoding(model, images, graph, draws=1, min_share=SHORTFALLS.get(module, MOST))


def test_no_shortfall_is_out_of_date():
    assert SHORTFALLS.keys() <= NETWORKS.keys()
    assert all(share < MOST for share in SHORTFALLS.values())
