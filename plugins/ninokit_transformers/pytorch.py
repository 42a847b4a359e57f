"""The tables of the attention layers of `torch.nn`, and of torchvision's vision transformer, by class."""

from __future__ import annotations

from ninokit_transformers.tables import Choice, Decoder, Item, Layers, Network, Row, Under

__all__ = ["PYTORCH"]

Table = tuple[Item, ...]


def _attention(*, key: str = "key", value: str = "value", output: str = "attended") -> Table:
    """`torch.nn.MultiheadAttention`, whose three projections are fused where they read vectors of one size."""
    return (
        Row(f"query {key} {value}", weight="in_proj_weight", bias=None, optional=True),
        Row("query", weight="q_proj_weight", bias=None, optional=True),
        Row(key, weight="k_proj_weight", bias=None, optional=True),
        Row(value, weight="v_proj_weight", bias=None, optional=True),
        Row(f"query {key} {value}", weight=None, bias="in_proj_bias"),
        Row("extra_key", weight="bias_k", bias=None),
        Row("extra_value", weight="bias_v", bias=None),
        Row(output, "out_proj"),
    )


_SELF_ATTENTION = Under("self_attn", _attention())
_CROSS_ATTENTION = Under("multihead_attn", _attention(key="memory_key", value="memory_value"))
_FEED_FORWARD: Table = (Row("up", "linear1"), Row("down", "linear2"))

_ENCODER_LAYER = Choice(
    "norm_first",
    {
        True: (Row("norm", "norm1"), _SELF_ATTENTION, Row("norm", "norm2"), *_FEED_FORWARD),
        False: (_SELF_ATTENTION, Row("norm", "norm1"), *_FEED_FORWARD, Row("norm", "norm2")),
    },
)
_DECODER_LAYER = Choice(
    "norm_first",
    {
        True: (
            *(Row("norm", "norm1"), _SELF_ATTENTION),
            *(Row("norm", "norm2"), _CROSS_ATTENTION),
            *(Row("norm", "norm3"), *_FEED_FORWARD),
        ),
        False: (
            *(_SELF_ATTENTION, Row("norm", "norm1")),
            *(_CROSS_ATTENTION, Row("norm", "norm2")),
            *(*_FEED_FORWARD, Row("norm", "norm3")),
        ),
    },
)
_ENCODER: Table = (Layers("layers", (_ENCODER_LAYER,)), Row("norm", "norm"))
_DECODER: Table = (Layers("layers", (_DECODER_LAYER,)), Row("norm", "norm"))

# torchvision's own encoder layer; its multilayer perceptron is a torch.nn.Sequential.
_VIT: Table = (
    Row("class_token", weight="class_token", bias=None),
    Row("patch", "conv_proj"),
    Row("position", "encoder", weight="pos_embedding", bias=None, axes="1 in out"),
    Layers(
        "encoder.layers",
        (
            Row("norm", "ln_1"),
            Under("self_attention", _attention()),
            Row("norm", "ln_2"),
            Row("up", "mlp.0"),
            Row("down", "mlp.3"),
        ),
    ),
    Row("norm", "encoder.ln"),
    Row("dense", "heads.pre_logits", optional=True),
    Row("outputs", "heads.head", optional=True),
    Row("outputs", "heads", optional=True),
)

_ALONE = _attention(key="other_key", value="other_value", output="attended_alone")

PYTORCH: dict[str, Network] = {
    "torch.nn.modules.activation.MultiheadAttention": Network(_ALONE, "num_heads"),
    "torch.nn.modules.transformer.TransformerEncoderLayer": Network((_ENCODER_LAYER,), "self_attn.num_heads"),
    "torch.nn.modules.transformer.TransformerDecoderLayer": Network((_DECODER_LAYER,), "self_attn.num_heads"),
    "torch.nn.modules.transformer.TransformerEncoder": Network(_ENCODER, "layers.0.self_attn.num_heads"),
    "torch.nn.modules.transformer.TransformerDecoder": Network(_DECODER, "layers.0.self_attn.num_heads"),
    "torch.nn.modules.transformer.Transformer": Network(
        (Under("encoder", _ENCODER), Decoder(), Under("decoder", _DECODER)), "nhead"
    ),
    "torchvision.models.vision_transformer.VisionTransformer": Network(
        _VIT, "encoder.layers.encoder_layer_0.num_heads"
    ),
}
