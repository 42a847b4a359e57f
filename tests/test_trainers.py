"""Nowcasting inside the trainers of docs/trainers.md, as it has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ninokit


@pytest.fixture
def guide(code_blocks):
    """The guide's code for a trainer, for a short training."""

    def of(trainer: str) -> str:
        (code,) = [block for block in code_blocks("docs/trainers.md") if f" {trainer}\n" in block]
        return code.replace("period=1000", "period=10")

    return of


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def samples(batches: int) -> torch.utils.data.DataLoader:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8 * batches, 8, generator=generator)
    labels = torch.randint(0, 3, (8 * batches,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=8)


def assert_same_end(whole: nn.Module, resumed: nn.Module, nowcasting: ninokit.Nowcasting) -> None:
    assert [(event.step, event.accepted) for event in nowcasting.events] == [(s, True) for s in (10, 20, 30, 40, 50)]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)


class Words(torch.utils.data.Dataset):
    """Sequences of eight words."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = torch.randint(0, 20, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": words, "labels": words}


def test_hugging_faces_trainer(guide, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    def train(out: Path, checkpoint: Path | None = None) -> tuple[nn.Module, ninokit.Nowcasting]:
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
        exec(guide("Trainer").replace("trainer.train()", ""), scope)
        scope["trainer"].train(resume_from_checkpoint=checkpoint and str(checkpoint))
        return scope["model"], scope["nowcasting"]

    whole, _ = train(tmp_path / "whole")
    assert_same_end(whole, *train(tmp_path / "resumed", tmp_path / "whole" / "checkpoint-25"))


# Lightning's own: of few workers, of going on in the same folder, and in its use of torch.
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:Checkpoint directory .* exists", "ignore:.*LeafSpec"
)
def test_lightning(guide, tmp_path):
    lightning = pytest.importorskip("lightning")
    checkpoints = lightning.pytorch.callbacks.ModelCheckpoint
    scope: dict[str, type[nn.Module]] = {}
    exec(guide("lightning"), scope)

    def train(checkpoint: Path | None = None) -> tuple[nn.Module, ninokit.Nowcasting]:
        module = scope["Classifier"](classifier())
        trainer = lightning.Trainer(
            max_steps=60,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[checkpoints(tmp_path, "{step}", every_n_train_steps=25, save_top_k=-1)],
        )
        trainer.fit(module, samples(batches=5), ckpt_path=checkpoint)
        return module.network, module.nowcasting

    whole, _ = train()
    assert_same_end(whole, *train(tmp_path / "step=25.ckpt"))


def test_accelerate(guide, tmp_path):
    pytest.importorskip("accelerate")
    prepare, loop = guide("Accelerator").split("for inputs")
    loop = f"for inputs{loop}"

    def start() -> dict[str, Any]:
        """What the guide has before its loop, on this processor."""
        scope: dict[str, Any] = {"model": classifier(), "batches": samples(batches=60)}
        exec(prepare.replace("Accelerator()", "Accelerator(cpu=True)"), scope)
        return scope

    whole = start()
    exec(loop, whole)

    begun, resumed = start(), start()
    exec(loop.replace("in batches", "in list(batches)[:25]"), begun)
    begun["accelerator"].save_state(tmp_path)
    resumed["accelerator"].load_state(tmp_path)
    exec(loop.replace("in batches", "in list(batches)[25:]"), resumed)
    assert_same_end(whole["model"], resumed["model"], resumed["nowcasting"])
