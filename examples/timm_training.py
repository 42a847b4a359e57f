"""Train or fine-tune a timm network with nowcasting, with timm's own data, scheduler, mixup and moving average.

    python examples/timm_training.py --dataset torch/fashion_mnist --data-root DATA --model resnet18 \
        --in-chans 1 --img-size 28 --nowcaster nino_h128

DATA is what `timm.data.create_dataset` takes: for the data sets of torchvision the folder that holds them, unpacked;
for a data set of your own one with the folders ``train`` and ``validation``, each with a folder a class.
``--nowcaster none`` is the same training without nowcasting: what differs is how the optimizer is made, nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
import timm.data
import timm.loss
import timm.optim
import timm.scheduler
import timm.utils
import torch
from torch import Tensor, nn
from tqdm import tqdm

import ninokit.timm

_NONE = "none"


class Loaders(NamedTuple):
    """Loaders of timm, each an iterable of images (B, C, H, W) and labels (B,)."""

    train: Any
    validation: Any
    steps: int  # of an epoch


class Score(NamedTuple):
    """What a network has reached on the validation data."""

    accuracy: float
    loss: float


def main(arguments: Sequence[str] | None = None) -> list[Score]:
    """Train as the command line says.

    Args:
        arguments: without the program's name; None takes them from the process.

    Returns:
        The scores of the averaged weights after each epoch.
    """
    options = parse_options(arguments)
    timm.utils.random_seed(options.seed)
    model = build_model(options)
    loaders = build_loaders(options, model)
    total_steps = min(options.epochs * loaders.steps, options.max_steps or sys.maxsize)
    optimizer = build_optimizer(options, model, total_steps)
    scheduler, epochs = timm.scheduler.create_scheduler_v2(
        optimizer,
        options.schedule,
        num_epochs=options.epochs,
        warmup_epochs=options.warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=loaders.steps,
    )
    mixup = timm.data.Mixup(
        mixup_alpha=options.mixup,
        cutmix_alpha=options.cutmix,
        label_smoothing=options.smoothing,
        num_classes=options.num_classes,
    )
    average = timm.utils.ModelEmaV3(model, decay=options.ema_decay)
    loss = timm.loss.SoftTargetCrossEntropy()
    step, scores = 0, []
    for epoch in range(epochs):
        batches = tqdm(first(loaders.train, total_steps - step), desc=f"epoch {epoch}", total=loaders.steps)
        for images, labels in batches:
            inputs, targets = mixup(*to_device(options, images, labels))
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            value.backward()
            optimizer.step()
            step += 1
            average.update(model, step=step)
            scheduler.step_update(step)
            batches.set_postfix(loss=f"{value.item():.3f}", refresh=False)
        scores.append(validate(options, average.module, loaders.validation))
        print(f"step {step}: accuracy {scores[-1].accuracy:.2%}, loss {scores[-1].loss:.4f}")
        if step == total_steps:
            break
    return scores


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The settings from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = parser.add_argument_group("data")
    data.add_argument("--data-root", type=Path, required=True, help="the folder of the data")
    data.add_argument("--dataset", default="", help="such as torch/fashion_mnist; left out, folders of images")
    data.add_argument("--num-classes", type=int, default=10)
    data.add_argument("--batch-size", type=int, default=64)
    data.add_argument("--workers", type=int, default=2, help="processes that load images")
    model = parser.add_argument_group("network")
    model.add_argument("--model", default="resnet18", help="the name of a timm network")
    model.add_argument("--pretrained", action="store_true", help="start from timm's weights: fine-tune")
    model.add_argument("--in-chans", type=int, default=3, help="colours of an image: 1 or 3")
    model.add_argument("--img-size", type=int, help="pixels a side; left out, the network's own")
    training = parser.add_argument_group("training")
    training.add_argument("--opt", default="adamw", help="the name of a timm optimizer")
    training.add_argument("--lr", type=float, default=1e-3)
    training.add_argument("--weight-decay", type=float, default=0.05)
    training.add_argument("--layer-decay", type=float, help="for fine-tuning, such as 0.75")
    training.add_argument("--schedule", default="cosine", help="the name of a timm scheduler, such as constant")
    training.add_argument("--warmup-epochs", type=int, default=0)
    training.add_argument("--epochs", type=int, default=10)
    training.add_argument("--max-steps", type=int, help="stop earlier")
    training.add_argument("--mixup", type=float, default=0.1, help="alpha")
    training.add_argument("--cutmix", type=float, default=0.0, help="alpha")
    training.add_argument("--smoothing", type=float, default=0.1)
    training.add_argument("--ema-decay", type=float, default=0.999)
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    training.add_argument("--seed", type=int, default=0)
    nowcasting = parser.add_argument_group("nowcasting")
    nowcasting.add_argument("--nowcaster", default="linefit", help=f"a name, a checkpoint's path, or {_NONE}")
    nowcasting.add_argument("--period", type=int, default=1000, help="steps between nowcasts")
    nowcasting.add_argument("--recalibrate-batchnorm", type=int, default=0, help="steps after each")
    return parser.parse_args(arguments)


def build_model(options: argparse.Namespace) -> nn.Module:
    """The network on its device."""
    # Only networks that are made for one size are told it.
    fixed = timm.get_pretrained_cfg(options.model).fixed_input_size
    model: nn.Module = timm.create_model(
        options.model,
        pretrained=options.pretrained,
        num_classes=options.num_classes,
        in_chans=options.in_chans,
        img_size=options.img_size if fixed else None,
    )
    return model.to(options.device)


def build_optimizer(options: argparse.Namespace, model: nn.Module, total_steps: int) -> torch.optim.Optimizer:
    """The optimizer, with nowcasting attached or without."""
    settings = {"lr": options.lr, "weight_decay": options.weight_decay, "layer_decay": options.layer_decay}
    if options.nowcaster == _NONE:
        return timm.optim.create_optimizer_v2(model, options.opt, **settings)
    return ninokit.timm.create_optimizer_v2(
        model,
        options.opt,
        **settings,
        nowcaster=options.nowcaster,
        total_steps=total_steps,
        period=options.period,
        recalibrate_batchnorm=options.recalibrate_batchnorm,
    )


def build_loaders(options: argparse.Namespace, model: nn.Module) -> Loaders:
    """The data at the network's size, mean and deviation; the last, smaller batch of an epoch is left out."""
    config = timm.data.resolve_model_data_config(model)
    if options.img_size is not None:
        config["input_size"] = (options.in_chans, options.img_size, options.img_size)
    config.update(mean=config["mean"][: options.in_chans], std=config["std"][: options.in_chans])
    loaders = [_loader(options, split, config) for split in ("train", "validation")]
    return Loaders(*loaders, steps=len(loaders[0]))


def _loader(options: argparse.Namespace, split: str, config: dict[str, Any]) -> Any:
    training = split == "train"
    root = str(options.data_root)
    colours = (
        {} if options.dataset.startswith("torch/") else {"input_img_mode": "L" if options.in_chans == 1 else "RGB"}
    )
    dataset = timm.data.create_dataset(options.dataset, root=root, split=split, is_training=training, **colours)
    return timm.data.create_loader(
        dataset,
        **config,
        batch_size=options.batch_size,
        is_training=training,
        color_jitter=0.0,
        num_workers=options.workers,
        device=torch.device(options.device),
        use_prefetcher=False,
        persistent_workers=options.workers > 0,
    )


def first(batches: Any, count: int) -> Iterator[Any]:
    """The first batches of a loader."""
    for number, batch in enumerate(batches, start=1):
        yield batch
        if number >= count:
            return


def to_device(options: argparse.Namespace, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A batch where the network is."""
    return images.to(options.device), labels.to(options.device)


@torch.inference_mode()
def validate(options: argparse.Namespace, model: nn.Module, batches: Any) -> Score:
    """The accuracy and the mean cross entropy of a network on validation data."""
    accuracy, loss = timm.utils.AverageMeter(), timm.utils.AverageMeter()
    model.eval()
    for images, labels in batches:
        inputs, targets = to_device(options, images, labels)
        logits = model(inputs)
        accuracy.update((logits.argmax(dim=-1) == targets).float().mean().item(), len(targets))
        loss.update(nn.functional.cross_entropy(logits, targets).item(), len(targets))
    return Score(accuracy.avg, loss.avg)


if __name__ == "__main__":
    main()
