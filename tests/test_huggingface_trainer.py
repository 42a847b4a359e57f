"""Nowcasting inside transformers' Trainer, as docs/transformers-training.md has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import ninokit

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

GUIDE = Path(__file__).parent.parent / "docs" / "transformers-training.md"


class Words(torch.utils.data.Dataset):
    """Sequences of eight words."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = torch.randint(0, 20, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": words, "labels": words}


def train(out: Path, checkpoint: Path | None = None) -> tuple[torch.nn.Module, ninokit.Nowcasting]:
    """Sixty steps, of which a checkpoint is written after every 25."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    scope = {
        "model": transformers.GPT2LMHeadModel(config),
        "train_dataset": Words(),
        "arguments": transformers.TrainingArguments(
            str(out), max_steps=60, save_steps=25, report_to=[], disable_tqdm=True, use_cpu=True
        ),
    }
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    exec(code.replace("period=1000", "period=10").replace("trainer.train()", ""), scope)
    scope["trainer"].train(resume_from_checkpoint=checkpoint and str(checkpoint))
    return scope["model"], scope["nowcasting"]


def test_a_training_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(tmp_path):
    whole, nowcasting = train(tmp_path / "whole")
    assert (nowcasting.steps, nowcasting.accepted) == (60, 5)
    resumed, nowcasting = train(tmp_path / "resumed", tmp_path / "whole" / "checkpoint-25")
    assert [(event.step, event.accepted) for event in nowcasting.events] == [(s, True) for s in (10, 20, 30, 40, 50)]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)
