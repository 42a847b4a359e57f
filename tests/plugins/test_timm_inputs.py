"""timm's networks: known as such, and with the size of their inputs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import ninokit
import ninokit_timm.encoder
from ninokit.errors import UnsupportedModelError
from ninokit.testing import conformance_checks
from ninokit_timm.inputs import example_batch, input_size

timm = pytest.importorskip("timm")


def family() -> ninokit.Architecture:
    return ninokit.architectures()["timm"]


def made(name: str, **settings) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **settings)


def resized(name: str, size: tuple[int, int], **settings) -> nn.Module:
    model = made(name, **settings)
    model.set_input_size(img_size=size)
    return model


def with_stem(name: str, path: str, channels: int) -> nn.Module:
    """A network whose first convolution somebody replaced after it was made."""
    model = made(name)
    stem = model.get_submodule(path)
    new = nn.Conv2d(channels, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, device="meta")
    model.set_submodule(path, new)
    return model


SIZES = {
    "any size": (lambda: made("resnet18"), (3, 224, 224)),
    "of its configuration": (lambda: made("test_resnet"), (3, 160, 160)),
    "made grey": (lambda: made("resnet18", in_chans=1), (1, 224, 224)),
    "stem replaced by a grey one": (lambda: with_stem("resnet18", "conv1", 1), (1, 224, 224)),
    "stem replaced by one of 5 channels": (lambda: with_stem("efficientnet_b0", "conv_stem", 5), (5, 224, 224)),
    "stem replaced by one of 6 channels": (lambda: with_stem("resnet18", "conv1", 6), (6, 224, 224)),
    "fixed size": (lambda: made("vit_tiny_patch16_224"), (3, 224, 224)),
    "fixed size, made smaller": (lambda: made("vit_tiny_patch16_224", img_size=32, patch_size=4), (3, 32, 32)),
    "not square": (lambda: made("test_vit", img_size=(32, 64)), (3, 32, 64)),
    "resized": (lambda: resized("vit_tiny_patch16_224", (64, 96)), (3, 64, 96)),
    "resized and grey": (lambda: resized("swin_tiny_patch4_window7_224", (112, 112), in_chans=1), (1, 112, 112)),
    "size only in the traits": (lambda: made("levit_128s", img_size=256), (3, 256, 256)),
    "several patch embeddings": (lambda: made("crossvit_tiny_240"), (3, 240, 240)),
    "size of the configuration alone": (lambda: made("beit_base_patch16_384"), (3, 384, 384)),
    "pixels folded into channels": (lambda: made("tresnet_l"), (3, 224, 224)),
    "pixels folded into channels, grey": (lambda: made("tresnet_l", in_chans=1), (1, 224, 224)),
    "cosines before the stem": (lambda: made("csatv2"), (3, 512, 512)),
    "no convolution": (lambda: made("naflexvit_base_patch16_gap"), (3, 384, 384)),
    "features": (lambda: made("resnet18", features_only=True, in_chans=2), (2, 224, 224)),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_input_size(case):
    make, expected = SIZES[case]
    model = make()
    assert input_size(model) == expected
    batch = example_batch(model)
    assert (tuple(batch.shape), batch.dtype, batch.device.type) == ((2, *expected), torch.float32, "meta")
    with torch.no_grad():
        model.eval()(batch)  # runs on it


def test_the_batch_has_the_dtype_of_the_parameters():
    assert example_batch(made("test_resnet").bfloat16()).dtype == torch.bfloat16


def test_a_network_of_timms_classes_without_a_configuration():
    with torch.device("meta"):
        resnet = timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, [1, 1, 1, 1], in_chans=1)
        vit = timm.models.VisionTransformer(img_size=48, depth=1)
    del resnet.in_chans
    assert input_size(resnet) == (1, 224, 224)
    assert input_size(vit) == (3, 48, 48)


OLDER = {
    "on the patch embedding": ("vit_tiny_patch16_224", {"img_size": 32, "in_chans": 1}, (1, 32, 32)),
    "on the network": ("coatnet_0_224", {"img_size": (192, 224)}, (3, 192, 224)),
    "a number": ("efficientvit_m0", {"img_size": 256}, (3, 256, 256)),
    "in the configuration": ("test_resnet", {}, (3, 160, 160)),
}


@pytest.mark.parametrize("case", OLDER)
def test_older_versions_and_others_keep_less(case):
    """Neither traits nor the number of channels, and the configuration under its first name."""
    name, settings, expected = OLDER[case]
    model = made(name, **settings)
    model.default_cfg = model.pretrained_cfg
    for attribute in ("_traits", "in_chans", "pretrained_cfg"):
        delattr(model, attribute)
    assert input_size(model) == expected


def test_a_layer_of_timm_has_no_input_size():
    message = "Mlp has no pretrained_cfg with its input size; pass example_inputs"
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(message)}$"):
        input_size(timm.layers.Mlp(4))


class TestMatches:
    def test_timms_and_their_subclasses(self):
        class Mine(timm.models.ResNet):
            pass

        with torch.device("meta"):
            mine = Mine(timm.models.resnet.BasicBlock, [1, 1, 1, 1])
        for model in (made("resnet18"), made("resnet18", features_only=True), mine, timm.layers.Mlp(4)):
            assert family().matches(model)

    def test_networks_with_timms_configuration(self):
        model = nn.Linear(2, 2)
        assert not family().matches(model)
        model.pretrained_cfg = {"input_size": (3, 8, 8)}
        assert family().matches(model)

    def test_others_do_not(self):
        pytest.importorskip("torchvision")
        from torchvision.models import resnet18

        assert not family().matches(resnet18())

    def test_timm_is_not_imported(self):
        code = (
            "import sys, torch, ninokit;"
            "assert not ninokit.architectures()['timm'].matches(torch.nn.Linear(2, 2));"
            "sys.exit('timm' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


GRAPH = ninokit.encode(nn.Linear(2, 2))


class TestEncode:
    @pytest.fixture
    def traced(self, monkeypatch):
        calls = []

        def trace(model, example_inputs):
            calls.append((model, example_inputs))
            return GRAPH

        monkeypatch.setattr(ninokit_timm.encoder, "trace", trace)
        return calls

    def test_the_tracer_gets_images_of_the_right_size(self, traced):
        model = made("test_vit", img_size=32, in_chans=1)
        assert ninokit.encode(model) is GRAPH
        ((seen, batch),) = traced
        assert seen is model
        assert tuple(batch.shape) == (2, 1, 32, 32)

    def test_inputs_that_are_given_are_taken(self, traced):
        model, images = made("test_resnet"), torch.zeros(1, 3, 64, 64)
        assert ninokit.encode(model, images) is GRAPH
        assert traced[0][1] is images

    def test_it_is_asked_before_the_families_that_decline(self):
        names = list(ninokit.architectures())
        assert names.index("timm") < min(names.index("mlp"), names.index("cnn"), names.index("traced"))


def test_the_examples_run_on_their_inputs():
    for model, inputs in ninokit_timm.encoder.examples():
        assert family().matches(model)
        assert tuple(model(inputs).shape) == (2, 4)


def test_the_family_keeps_all_promises():
    reports = conformance_checks("timm", min_share=0.99)
    assert len(reports) == 4


def test_large_networks_are_encoded_from_their_configuration():
    model = made("vit_base_patch16_224", img_size=384)
    graph = ninokit.encode(model)
    assert graph.num_parameters == sum(parameter.numel() for parameter in model.parameters())
