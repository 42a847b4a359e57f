"""The tables of Hugging Face's transformers, by class; the package itself is not needed."""

from __future__ import annotations

from ninokit_transformers.tables import Base, Decoder, Item, Layers, Network, RelativePositions, Row, Under

__all__ = ["HUGGINGFACE"]

Table = tuple[Item, ...]

# GPT-2. Its Conv1D layers store (in, out).
_GPT2: Table = (
    Row("token", "wte"),
    Row("position", "wpe"),
    Layers(
        "h",
        (
            Row("norm", "ln_1"),
            Row("query key value", "attn.c_attn", axes="in out"),
            Row("attended", "attn.c_proj", axes="in out"),
            Row("norm", "ln_2"),
            Row("up", "mlp.c_fc", axes="in out"),
            Row("down", "mlp.c_proj", axes="in out"),
        ),
    ),
    Row("norm", "ln_f"),
)

# BERT and RoBERTa: norms follow what they normalise.
_BERT: Table = (
    Row("token", "embeddings.word_embeddings"),
    Row("position", "embeddings.position_embeddings"),
    Row("token_type", "embeddings.token_type_embeddings"),
    Row("norm", "embeddings.LayerNorm"),
    Layers(
        "encoder.layer",
        (
            Row("query", "attention.self.query"),
            Row("key", "attention.self.key"),
            Row("value", "attention.self.value"),
            Row("attended", "attention.output.dense"),
            Row("norm", "attention.output.LayerNorm"),
            Row("up", "intermediate.dense"),
            Row("down", "output.dense"),
            Row("norm", "output.LayerNorm"),
        ),
    ),
)
_POOLER = Base((Row("pool", "pooler.dense"),))
_POOLED_CLASSES: Table = (Row("pooled_outputs", "classifier"),)
_BERT_TOKENS: Table = (
    Row("dense", "cls.predictions.transform.dense"),
    Row("norm", "cls.predictions.transform.LayerNorm"),
    Row("outputs", "cls.predictions.decoder"),
    Row("output_shift", "cls.predictions", weight="bias", bias=None),
)
_ROBERTA_TOKENS: Table = (
    Row("dense", "lm_head.dense"),
    Row("norm", "lm_head.layer_norm"),
    Row("outputs", "lm_head.decoder"),
    Row("output_shift", "lm_head", weight="bias", bias=None),
)

_VIT: Table = (
    Row("class_token", "embeddings", weight="cls_token", bias=None),
    Row("class_token", "embeddings", weight="mask_token", bias=None),
    Row("position", "embeddings", weight="position_embeddings", bias=None, axes="1 in out"),
    Row("patch", "embeddings.patch_embeddings.projection"),
    Layers(
        "layers",
        (
            Row("norm", "layernorm_before"),
            Row("query", "attention.q_proj"),
            Row("key", "attention.k_proj"),
            Row("value", "attention.v_proj"),
            Row("attended", "attention.o_proj"),
            Row("norm", "layernorm_after"),
            Row("up", "mlp.fc1"),
            Row("down", "mlp.fc2"),
        ),
    ),
    Row("norm", "layernorm"),
)


def _decoder(layer: Table, norm: str = "norm") -> Table:
    return (Row("token", "embed_tokens"), Layers("layers", layer), Row("norm", norm))


# Llama and what has its shape: Mistral, Qwen2 (with biases), Qwen3 (with norms of each head), Gemma.
_ROTARY_ATTENTION: Table = (
    Row("query", "self_attn.q_proj"),
    Row("key", "self_attn.k_proj"),
    Row("value", "self_attn.v_proj"),
    Row("head_norm", "self_attn.q_norm", optional=True),
    Row("head_norm", "self_attn.k_norm", optional=True),
    Row("attended", "self_attn.o_proj"),
)
_GATED: Table = (Row("gate", "mlp.gate_proj"), Row("up", "mlp.up_proj"), Row("down", "mlp.down_proj"))
_LLAMA = _decoder(
    (Row("norm", "input_layernorm"), *_ROTARY_ATTENTION, Row("norm", "post_attention_layernorm"), *_GATED)
)

# Gemma 2 and 3 normalise what they add to the stream as well.
_GEMMA2 = _decoder(
    (
        Row("norm", "input_layernorm"),
        *_ROTARY_ATTENTION,
        Row("norm", "post_attention_layernorm"),
        Row("norm", "pre_feedforward_layernorm"),
        *_GATED,
        Row("norm", "post_feedforward_layernorm"),
    )
)

# Phi adds attention and feed-forward of the same normalised stream.
_PHI = _decoder(
    (
        Row("norm", "input_layernorm"),
        Row("query", "self_attn.q_proj"),
        Row("key", "self_attn.k_proj"),
        Row("value", "self_attn.v_proj"),
        Row("head_norm", "self_attn.q_layernorm", optional=True),
        Row("head_norm", "self_attn.k_layernorm", optional=True),
        Row("up", "mlp.fc1"),
        Row("attended", "self_attn.dense"),
        Row("parallel_down", "mlp.fc2"),
    ),
    norm="final_layernorm",
)

_PHI3 = _decoder(
    (
        Row("norm", "input_layernorm"),
        Row("query key value", "self_attn.qkv_proj"),
        Row("attended", "self_attn.o_proj"),
        Row("norm", "post_attention_layernorm"),
        Row("gate up", "mlp.gate_up_proj"),
        Row("down", "mlp.down_proj"),
    )
)

_MIXTRAL = _decoder(
    (
        Row("norm", "input_layernorm"),
        *_ROTARY_ATTENTION,
        Row("norm", "post_attention_layernorm"),
        Row("router", "mlp.gate"),
        Row("expert_gate expert_up", "mlp.experts", weight="gate_up_proj", bias=None),
        Row("expert_down", "mlp.experts", weight="down_proj", bias=None),
    )
)

# T5, plain or gated (v1.1): encoder and decoder share the token embedding.
_T5_SELF_ATTENTION: Table = (
    Row("norm", "layer.0.layer_norm"),
    Row("query", "layer.0.SelfAttention.q"),
    Row("key", "layer.0.SelfAttention.k"),
    Row("value", "layer.0.SelfAttention.v"),
    RelativePositions("layer.0.SelfAttention.relative_attention_bias"),
    Row("attended", "layer.0.SelfAttention.o"),
)
_T5_CROSS_ATTENTION: Table = (
    Row("norm", "layer.1.layer_norm"),
    Row("query", "layer.1.EncDecAttention.q"),
    Row("memory_key", "layer.1.EncDecAttention.k"),
    Row("memory_value", "layer.1.EncDecAttention.v"),
    Row("attended", "layer.1.EncDecAttention.o"),
)
_T5_FEED_FORWARD: Table = (
    Row("norm", "layer_norm"),
    Row("up", "DenseReluDense.wi", optional=True),
    Row("gate", "DenseReluDense.wi_0", optional=True),
    Row("up", "DenseReluDense.wi_1", optional=True),
    Row("down", "DenseReluDense.wo"),
)
_T5_ENCODER: Table = (
    Row("token", "shared"),
    Layers("encoder.block", (*_T5_SELF_ATTENTION, Under("layer.1", _T5_FEED_FORWARD))),
    Row("norm", "encoder.final_layer_norm"),
)
_T5: Table = (
    *_T5_ENCODER,
    Decoder(),
    Layers("decoder.block", (*_T5_SELF_ATTENTION, *_T5_CROSS_ATTENTION, Under("layer.2", _T5_FEED_FORWARD))),
    Row("norm", "decoder.final_layer_norm"),
)

_CLASSES: Table = (Row("outputs", "classifier"),)
_SCORE: Table = (Row("outputs", "score"),)
_SPANS: Table = (Row("outputs", "qa_outputs"),)
_VOCABULARY: Table = (Row("outputs", "lm_head"),)

# Name of a class without its family's prefix → its table.
Classes = dict[str, Table]

_GPT2_CLASSES: Classes = {
    "Model": _GPT2,
    "LMHeadModel": (Base(_GPT2), *_VOCABULARY),
    "ForSequenceClassification": (Base(_GPT2), *_SCORE),
    "ForTokenClassification": (Base(_GPT2), *_CLASSES),
    "ForQuestionAnswering": (Base(_GPT2), *_SPANS),
}

_BERT_CLASSES: Classes = {
    "Model": (*_BERT, Row("dense", "pooler.dense", optional=True)),
    "ForPreTraining": (Base(_BERT), _POOLER, Row("pooled_outputs", "cls.seq_relationship"), *_BERT_TOKENS),
    "ForMaskedLM": (Base(_BERT), *_BERT_TOKENS),
    "LMHeadModel": (Base(_BERT), *_BERT_TOKENS),
    "ForNextSentencePrediction": (Base(_BERT), _POOLER, Row("pooled_outputs", "cls.seq_relationship")),
    "ForSequenceClassification": (Base(_BERT), _POOLER, *_POOLED_CLASSES),
    "ForMultipleChoice": (Base(_BERT), _POOLER, *_POOLED_CLASSES),
    "ForTokenClassification": (Base(_BERT), *_CLASSES),
    "ForQuestionAnswering": (Base(_BERT), *_SPANS),
}

_ROBERTA_CLASSES: Classes = {
    "Model": (*_BERT, Row("dense", "pooler.dense", optional=True)),
    "ForMaskedLM": (Base(_BERT), *_ROBERTA_TOKENS),
    "ForCausalLM": (Base(_BERT), *_ROBERTA_TOKENS),
    "ForSequenceClassification": (
        Base(_BERT),
        Row("dense", "classifier.dense"),
        Row("outputs", "classifier.out_proj"),
    ),
    "ForMultipleChoice": (Base(_BERT), _POOLER, *_POOLED_CLASSES),
    "ForTokenClassification": (Base(_BERT), *_CLASSES),
    "ForQuestionAnswering": (Base(_BERT), *_SPANS),
}

_VIT_CLASSES: Classes = {
    "Model": (*_VIT, Row("dense", "pooler.dense", optional=True)),
    "ForImageClassification": (Base(_VIT), Row("outputs", "classifier", optional=True)),
}

_T5_CLASSES: Classes = {
    "EncoderModel": _T5_ENCODER,
    "Model": _T5,
    "ForConditionalGeneration": (*_T5, *_VOCABULARY),
    "ForSequenceClassification": (
        Base(_T5),
        Row("dense", "classification_head.dense"),
        Row("outputs", "classification_head.out_proj"),
    ),
    "ForTokenClassification": (Base(_T5_ENCODER), *_CLASSES),
    "ForQuestionAnswering": (*_T5, *_SPANS),
}


def _decoder_classes(table: Table, model: str = "Model") -> Classes:
    return {
        model: table,
        "ForCausalLM": (Base(table), *_VOCABULARY),
        "ForSequenceClassification": (Base(table), *_SCORE),
        "ForTokenClassification": (Base(table), *_SCORE),
        "ForQuestionAnswering": (Base(table), *_SPANS),
    }


def _networks(module: str, prefix: str, classes: Classes, *, rotary: bool = False) -> dict[str, Network]:
    heads, kv_heads = "config.num_attention_heads", "config.num_key_value_heads" if rotary else None
    return {
        f"transformers.models.{module}.modeling_{module}.{prefix}{name}": Network(table, heads, kv_heads, rotary)
        for name, table in classes.items()
    }


HUGGINGFACE: dict[str, Network] = {
    **_networks("gpt2", "GPT2", _GPT2_CLASSES),
    **_networks("bert", "Bert", _BERT_CLASSES),
    **_networks("roberta", "Roberta", _ROBERTA_CLASSES),
    **_networks("vit", "ViT", _VIT_CLASSES),
    **_networks("t5", "T5", _T5_CLASSES),
    **_networks("llama", "Llama", _decoder_classes(_LLAMA), rotary=True),
    **_networks("mistral", "Mistral", _decoder_classes(_LLAMA), rotary=True),
    **_networks("qwen2", "Qwen2", _decoder_classes(_LLAMA), rotary=True),
    **_networks("qwen3", "Qwen3", _decoder_classes(_LLAMA), rotary=True),
    **_networks("gemma", "Gemma", _decoder_classes(_LLAMA), rotary=True),
    **_networks("gemma2", "Gemma2", _decoder_classes(_GEMMA2), rotary=True),
    **_networks("gemma3", "Gemma3", _decoder_classes(_GEMMA2, "TextModel"), rotary=True),
    **_networks("phi", "Phi", _decoder_classes(_PHI), rotary=True),
    **_networks("phi3", "Phi3", _decoder_classes(_PHI3), rotary=True),
    **_networks("mixtral", "Mixtral", _decoder_classes(_MIXTRAL), rotary=True),
}
