"""The smallest network of each module of timm, shrunk as far as timm's constructors can be asked to.

Of a module the model with the fewest parameters, smaller still where its settings are open: every kind of block,
several heads, windows, splits and downsamplings stay, and widths differ from stage to stage where they may. The images
are the smallest that leave more than one position in the last stage. Where the widths are written into the code (the
Inceptions, PNASNet, Xception, FocalNet and some others) nothing can be asked for; these take most of the time.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

IMAGES = 2
CLASSES = 5

VIT = {"img_size": 24, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"img_size": 64, "embed_dim": 12, "depths": (2, 1, 2, 1), "num_heads": (2, 3, 4, 6), "window_size": 4}
XCEPTION = [
    {"in_chs": 64, "out_chs": 16, "stride": 2},
    {"in_chs": 16, "out_chs": 24, "stride": 2},
    {"in_chs": 24, "out_chs": 24, "stride": 1},
    {"in_chs": 24, "out_chs": (24, 32, 32), "stride": 2},
    {"in_chs": 32, "out_chs": (40, 40, 48), "no_skip": True, "stride": 1},
]
NARROW = (12, 16, 24, 32)

# module → (model, settings of timm.create_model besides num_classes, height and width of the images)
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "beit": ("beit_base_patch16_224", VIT, 24),
    "byoanet": (
        "halonet_h1",
        {"stem_chs": 16, "width_factor": 0.25, "self_attn_kwargs": {"block_size": 2, "halo_size": 1}},
        64,
    ),
    "byobnet": ("test_byobnet", {}, 64),
    "cait": ("cait_xxs24_224", VIT, 24),
    "coat": (
        "coat_tiny",
        {"img_size": 64, "embed_dims": (24, 24, 24, 24), "serial_depths": (1, 1, 1, 1), "parallel_depth": 1},
        64,
    ),
    "convit": ("convit_tiny", {**VIT, "embed_dim": 6, "num_heads": 4, "local_up_to_layer": 1}, 24),
    "convmixer": ("convmixer_768_32", {}, 21),
    "convnext": ("test_convnext", {"depths": (1, 1, 2, 1)}, 64),
    "cpubone": (
        "cpubone_nano",
        {"width_list": (8, *NARROW), "depth_list": (0, 1, 1, 1, 2), "head_widths": (40, 48)},
        64,
    ),
    "crossvit": (
        "crossvit_tiny_240",
        {"img_size": 48, "img_scale": (1.0, 32 / 48), "embed_dim": (18, 24), "num_heads": (3, 2)}
        | {"depth": ((1, 2, 0), (1, 2, 0))},
        48,
    ),
    "csatv2": ("csatv2", {"dims": (16, 20, 24, 40), "depths": (1, 1, 2, 2), "transformer_depths": (0, 0, 1, 1)}, 64),
    "cspnet": ("cs3darknet_focus_s", {}, 64),
    "cspnext": ("cspnext_tiny", {"widen_factor": 0.0625, "depths": (3, 3, 3, 3)}, 64),
    "davit": (
        "davit_tiny",
        {"embed_dims": (12, 18, 24, 32), "num_heads": (2, 3, 4, 4), "depths": (1, 1, 1, 1), "window_size": 4},
        64,
    ),
    "deepseek_vit": ("deepseek_vit_412m", {"img_size": 84, "embed_dim": 24, "depth": 2, "num_heads": 3}, 84),
    "deit": ("deit_tiny_patch16_224", VIT, 24),
    "densenet": ("densenet121", {"growth_rate": 4, "block_config": (2, 2, 3, 2)}, 64),
    "dla": ("dla46x_c", {"channels": (8, 12, 32, 64, 64, 128)}, 64),
    "dpn": ("dpn48b", {"k_r": 32, "groups": 8, "k_sec": (1, 2, 2, 1), "inc_sec": (4, 8, 8, 16)}, 64),
    "edgenext": ("edgenext_xx_small", {"depths": (1, 2, 2, 2), "dims": NARROW, "heads": (2, 2, 2, 4)}, 64),
    # Its attention is made for the positions of 224, whatever img_size says.
    "efficientformer": ("efficientformer_l1", {"depths": (1, 1, 1, 2), "embed_dims": NARROW}, 224),
    "efficientformer_v2": (
        "efficientformerv2_s0",
        {"img_size": 64, "depths": (1, 1, 2, 2), "embed_dims": NARROW, "num_vit": 1},
        64,
    ),
    "efficientnet": ("test_efficientnet", {}, 64),
    "efficientvim": (
        "efficientvim_m1",
        {"embed_dim": (16, 24, 32), "depths": (1, 1, 1), "state_dim": (9, 6, 4)},
        64,
    ),
    "efficientvit_mit": (
        "efficientvit_b0",
        {"widths": (8, *NARROW), "depths": (1, 1, 1, 1, 1), "head_dim": 4, "head_widths": (40, 48)},
        64,
    ),
    "efficientvit_msra": (
        "efficientvit_m0",
        {"img_size": 128, "embed_dim": (16, 24, 32), "key_dim": (4, 4, 4), "depth": (1, 1, 2), "num_heads": (2, 3, 4)}
        | {"window_size": (2, 2, 2)},
        128,
    ),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", VIT, 24),
    "fasternet": ("fasternet_t0", {"embed_dim": 8, "depths": (1, 1, 2, 1), "feature_dim": 40}, 64),
    "fastvit": ("fastvit_t8", {"layers": (1, 1, 2, 1), "embed_dims": (8, 16, 32, 64)}, 64),
    "focalnet": ("focalnet_tiny_srf", {"mlp_ratio": 1.0}, 64),
    "gcvit": ("gcvit_xxtiny", {"img_size": 64, "embed_dim": 16}, 64),
    "gemma4_vit": (
        "gemma4_vit_167m",
        {"img_size": 96, "embed_dim": 24, "depth": 2, "num_heads": 2, "head_dim": 12, "intermediate_size": 40}
        | {"position_embedding_size": 16},
        96,
    ),
    "ghostnet": ("ghostnet_050", {}, 64),
    "hardcorenas": ("hardcorenas_b", {}, 64),
    "hgnet": ("hgnetv2_b0", {"head_hidden_size": 40}, 64),
    "hiera": (
        "hiera_tiny_224",
        {"img_size": 64, "embed_dim": 12, "num_heads": 2, "stages": (1, 2, 2, 1), "mask_unit_size": (4, 4)},
        64,
    ),
    "hieradet_sam2": (
        "sam2_hiera_tiny",
        {"embed_dim": 12, "num_heads": 2, "stages": (1, 2, 3, 1), "global_att_blocks": (4,)}
        | {"window_spec": (4, 4, 2, 2)},
        64,
    ),
    "hrnet": ("hrnet_w18_small", {}, 64),
    "iformer": ("iformer_t", {"dims": NARROW, "depths": (1, 1, 3, 3), "attn_groups": (0, 0, 1, 1)}, 64),
    "inception_next": ("inception_next_atto", {"depths": (1, 1, 2, 1), "dims": NARROW}, 64),
    "inception_resnet_v2": ("inception_resnet_v2", {}, 107),
    "inception_v3": ("inception_v3", {}, 107),
    "inception_v4": ("inception_v4", {}, 107),
    "lcnetv2": ("lcnetv2_small", {"scale": 0.125, "depths": (1, 1, 2, 1), "head_hidden_size": 40}, 64),
    "levit": (
        "levit_128s",
        {"img_size": 128, "embed_dim": (16, 24, 32), "key_dim": 4, "num_heads": (2, 3, 4), "depth": (1, 1, 2)},
        128,
    ),
    "lowformer": (
        "lowformer_b0",
        {"width_list": (8, *NARROW), "depth_list": (0, 1, 1, 1, 2), "head_widths": (40, 48)},
        64,
    ),
    "mambaout": ("test_mambaout", {"depths": (1, 1, 2, 1)}, 64),
    "maxxvit": ("test_coatnet", {"img_size": 64, "embed_dim": (32, 32, 64, 96)}, 64),
    "metaformer": ("poolformerv2_s12", {}, 64),
    "mlp_mixer": ("gmlp_ti16_224", {"img_size": 48}, 48),
    "mobilenetv3": ("mobilenetv3_small_050", {}, 64),
    "mobilenetv5": ("mobilenetv5_base", {"channel_multiplier": 0.1}, 64),
    "mobilevit": ("mobilevit_xxs", {}, 64),
    "mvitv2": ("mvitv2_tiny", {"img_size": 64}, 64),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", VIT, 24),
    "nasnet": ("nasnetalarge", {"stem_size": 16, "num_features": 192}, 64),
    "nest": ("nest_tiny", {"img_size": 32, "patch_size": 2, "mlp_ratio": 1.0}, 32),
    "nextvit": ("nextvit_small", {"stem_chs": (8, 8, 12), "depths": (1, 2, 5, 2)}, 64),
    "nfnet": ("test_nfnet", {}, 64),
    "pit": ("pit_ti_224", {"img_size": 40, "base_dims": (8, 8, 8), "depth": (1, 2, 1)}, 40),
    "pnasnet": ("pnasnet5large", {}, 64),
    "pvt_v2": ("pvt_v2_b0", {"embed_dims": (8, 12, 20, 32), "depths": (1, 1, 1, 2)}, 64),
    "qwen3_vit": (
        "qwen3_vit_88m",
        {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "pos_embed_grid_size": 4},
        64,
    ),
    "rdnet": ("rdnet_tiny", {"growth_rates": (8, 8, 12, 12, 12, 12, 16), "num_init_features": 16}, 64),
    "regnet": (
        "regnetx_002",
        {"w0": 8, "wa": 8.0, "wm": 2.0, "depth": 6, "group_size": 4, "stem_width": 8},
        64,
    ),
    "repghost": ("repghostnet_050", {}, 64),
    "repvit": ("repvit_m1", {"embed_dim": (8, 12, 16, 24), "depth": (1, 1, 2, 1)}, 64),
    "res2net": (
        "res2next50",
        {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 40), "cardinality": 2, "base_width": 16} | {"stem_width": 8},
        64,
    ),
    "resnest": ("resnest14d", {"channels": (16, 24, 32, 40), "stem_width": 8}, 64),
    "resnet": ("test_resnet", {}, 64),
    "resnetv2": ("resnetv2_18", {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48), "stem_chs": 8}, 64),
    "rexnet": ("rexnet_100", {"width_mult": 0.5, "final_chs": 90, "depth_mult": 0.5}, 64),
    "selecsls": ("selecsls42", {}, 64),
    "senet": ("legacy_seresnet18", {"layers": (1, 1, 1, 1), "inplanes": 16}, 64),
    "sequencer": (
        "sequencer2d_s",
        {"img_size": 56, "layers": (1, 1, 1, 1), "embed_dims": (12, 16, 16, 16), "hidden_sizes": (4, 6, 6, 6)},
        56,
    ),
    "shvit": (
        "shvit_s1",
        {"embed_dim": (24, 32, 48), "depth": (1, 2, 2), "partial_dim": (8, 12, 16), "qk_dim": (6, 6, 6)},
        64,
    ),
    "sknet": ("skresnet18", {"layers": (1, 1, 1, 1), "channels": (32, 48, 64, 80), "stem_width": 16}, 64),
    "starnet": ("starnet_s050", {"base_dim": 8, "depths": (1, 1, 2, 1)}, 64),
    "swiftformer": ("swiftformer_xs", {"layers": (2, 2, 2, 2), "embed_dims": NARROW}, 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", SWIN, 64),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", SWIN, 64),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", SWIN, 64),
    "tiny_vit": (
        "tiny_vit_5m_224",
        {"embed_dims": NARROW, "depths": (1, 1, 2, 1), "num_heads": (2, 2, 3, 4), "window_sizes": (4, 4, 4, 2)},
        64,
    ),
    "tnt": (
        "tnt_s_legacy_patch16_224",
        {"img_size": 48, "embed_dim": 24, "inner_dim": 8, "depth": 2, "num_heads_inner": 2, "num_heads_outer": 3},
        48,
    ),
    "tresnet": ("tresnet_m", {"layers": (1, 1, 2, 1), "width_factor": 0.25}, 64),
    "twins": (
        "twins_svt_small",
        {"img_size": 64, "embed_dims": (8, 12, 16, 24), "num_heads": (2, 2, 4, 4), "depths": (2, 2, 2, 2)}
        | {"wss": (4, 4, 2, 2)},
        64,
    ),
    "vgg": ("vgg11", {"mlp_ratio": 0.01}, 64),
    "visformer": (
        "visformer_tiny",
        {"img_size": 64, "init_channels": 8, "embed_dim": 24, "depth": (1, 2, 2), "num_heads": 2, "group": 2},
        64,
    ),
    "vision_transformer": ("test_vit", VIT, 24),
    "vision_transformer_hybrid": (
        "vit_tiny_r_s16_p8_224",
        {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 3},
        64,
    ),
    "vision_transformer_relpos": ("test_vit_relpos", VIT, 24),
    "vision_transformer_sam": (
        "samvit_base_patch16_224",
        {**VIT, "img_size": 32, "window_size": 2, "global_attn_indexes": (1,)},
        32,
    ),
    "vitamin": ("vitamin_small_224", {"img_size": 32, "depth": 2}, 32),
    "volo": ("volo_d1_224", {"img_size": 64, "mlp_ratio": 0.5}, 64),
    "vovnet": ("ese_vovnet19b_slim_dw", {}, 64),
    "xception": ("legacy_xception", {}, 64),
    "xception_aligned": ("xception41p", {"block_cfg": XCEPTION}, 64),
    "xcit": ("xcit_nano_12_p8_224", {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3}, 32),
}


def network(module: str) -> tuple[nn.Module, Tensor]:
    """The smallest network of a module, with random parameters, and images for it."""
    import timm

    name, settings, size = NETWORKS[module]
    # A constructor may write into its settings.
    model = timm.create_model(name, num_classes=CLASSES, **copy.deepcopy(settings))
    return model, torch.randn(IMAGES, 3, size, size)
