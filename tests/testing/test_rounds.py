"""Few neurons: nothing wrong passes by chance."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hand_made import ResidualMLP, Transformer, edited, residual_graph, some_tokens, transformer_graph
from hypothesis import given
from hypothesis import strategies as st

from ninokit.errors import EncodingError
from ninokit.graph.symmetry import Cut
from ninokit.testing import check_encoding
from ninokit.testing.rounds import rounds


@given(st.lists(st.integers(2, 9), max_size=20), st.integers(1, 4))
def test_every_cut_moves_and_every_two_apart(sizes, draws):
    cuts = [Cut(size, (str(place),), None, False, ()) for place, size in enumerate(sizes)]
    trials = list(rounds(cuts, draws))
    assert all(trials)  # something moves in each
    assert len(trials) <= 3 * draws + 5
    assert [set(trial) for trial in trials[:draws]] == [set(cuts)] * draws * bool(cuts)
    for cut in cuts:
        often = 2 * draws if cut.number <= 5 else 0
        assert sum(cut in trial for trial in trials) >= draws + 1 + often
    for one, other in combinations(cuts, 2):
        assert any((one in trial) != (other in trial) for trial in trials)


def test_two_neurons_that_are_not_tied():
    """They would be moved alike by every second of all permutations."""
    model = ResidualMLP(3, 2, [6], 3)
    wrong = edited(residual_graph(model), lambda block: None if block.label.startswith("residual") else block)
    for seed in range(8):
        with pytest.raises(EncodingError):
            check_encoding(model, torch.randn(4, 3), wrong, draws=1, seed=seed)


def test_four_slices_that_are_two_heads():
    model = Transformer(2)
    for seed in range(8):
        with pytest.raises(EncodingError) as caught:
            check_encoding(model, some_tokens(model), transformer_graph(Transformer(4)), seed=seed)
        assert caught.value.culprits == ("attention_head edges heads → query", "attention_head edges heads → value")
