"""Transformers' architectures as tiny models, each with what is peculiar to it left in.

Every one is built from a configuration of its own class and saved with ``save_pretrained``; the
tests and the matrix open the folders as a person would.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

_ENCODER = {
    "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
_DECODER = _ENCODER | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VISION = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
_SPEECH = {
    "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "conv_dim": [32, 32], "conv_kernel": [10, 4], "conv_stride": [5, 4],
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
_STAGES = {"hidden_sizes": [16, 32], "depths": [2, 2]}
_TOWER = {"projection_dim": 16, **_ENCODER}
_TEXT_TOWER = {**_TOWER, "eos_token_id": 2}
_SEQ2SEQ = {
    "vocab_size": 96, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "max_position_embeddings": 64,
}  # fmt: skip
_GROUPED = {"num_key_value_heads": 2}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, **_GROUPED}

# Name: (model class, settings of its configuration).
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("AlbertForMaskedLM", _ENCODER | {"embedding_size": 16}),
    "ast": ("ASTForAudioClassification", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_length": 64, "num_mel_bins": 16,
    }),
    "bart": ("BartForConditionalGeneration", _SEQ2SEQ),
    "beit": ("BeitForImageClassification", _VISION),
    "bert": ("BertForSequenceClassification", _ENCODER),
    "bloom": ("BloomForCausalLM", {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "clip": ("CLIPModel", {
        "text_config": _TEXT_TOWER, "vision_config": _VISION | {"projection_dim": 16},
        "projection_dim": 16,
    }),
    "convnext": ("ConvNextForImageClassification", _STAGES | {"image_size": 32, "num_stages": 2}),
    "deberta_v2": ("DebertaV2ForSequenceClassification", _ENCODER | {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16,
    }),
    "deepseek_v3": ("DeepseekV3ForCausalLM", _DECODER | {
        "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "n_group": 2, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1,
    }),
    "deit": ("DeiTForImageClassification", _VISION),
    "detr": ("DetrForObjectDetection", {
        "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
        "backbone_config": {
            "model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32],
            "depths": [1, 1], "out_features": ["stage2"],
        },
        "num_queries": 5, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    }),
    "dinov2": ("Dinov2ForImageClassification", _VISION),
    "distilbert": ("DistilBertForMaskedLM", {
        "vocab_size": 96, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64,
        "max_position_embeddings": 64,
    }),
    "electra": ("ElectraForPreTraining", _ENCODER | {"embedding_size": 16}),
    "falcon": ("FalconForCausalLM", {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    }),
    "gemma": ("GemmaForCausalLM", _DECODER | _GROUPED | {"head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", _DECODER | _GROUPED | {"head_dim": 8}),
    "gpt2": ("GPT2LMHeadModel", {
        "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
    }),
    "gpt_neox": ("GPTNeoXForCausalLM", _ENCODER),
    "gpt_oss": ("GptOssForCausalLM", _DECODER | _EXPERTS | {"head_dim": 8}),
    "gptj": ("GPTJForCausalLM", {
        "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
        "rotary_dim": 4,
    }),
    "hubert": ("HubertForCTC", _SPEECH),
    "llama": ("LlamaForCausalLM", _DECODER),
    "mamba": ("MambaForCausalLM", {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4,
    }),
    "mamba2": ("Mamba2ForCausalLM", {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
        "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 16,
    }),
    "marian": ("MarianMTModel", _SEQ2SEQ | {
        "pad_token_id": 0, "decoder_start_token_id": 1, "eos_token_id": 2,
    }),
    "mistral": ("MistralForCausalLM", _DECODER | _GROUPED),
    "mixtral": ("MixtralForCausalLM", _DECODER | _EXPERTS),
    "mobilebert": ("MobileBertForSequenceClassification", _ENCODER | {
        "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16,
        "num_feedforward_networks": 2,
    }),
    "opt": ("OPTForCausalLM", {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "ffn_dim": 64, "max_position_embeddings": 64, "word_embed_proj_dim": 16,
    }),
    "phi": ("PhiForCausalLM", _DECODER),
    "phi3": ("Phi3ForCausalLM", _DECODER | _GROUPED),
    "qwen2": ("Qwen2ForCausalLM", _DECODER | _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", _DECODER | _GROUPED | {"head_dim": 8}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _DECODER | _GROUPED | {
        "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    }),
    "resnet": ("ResNetForImageClassification", _STAGES | {
        "embedding_size": 16, "layer_type": "bottleneck",
    }),
    "roberta": ("RobertaForMaskedLM", _ENCODER),
    "segformer": ("SegformerForImageClassification", {
        "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 1], "hidden_sizes": [16, 32],
        "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2],
        "mlp_ratios": [2, 2],
    }),
    "siglip": ("SiglipModel", {"text_config": _ENCODER, "vision_config": _VISION}),
    "speech_to_text": ("Speech2TextForConditionalGeneration", {
        "vocab_size": 96, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "conv_channels": 32, "max_source_positions": 100,
        "max_target_positions": 64,
    }),
    "swin": ("SwinForImageClassification", {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
        "window_size": 4,
    }),
    "switch_transformers": ("SwitchTransformersForConditionalGeneration", {
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2,
        "num_decoder_layers": 2, "num_heads": 4, "num_experts": 4,
    }),
    "t5": ("T5ForConditionalGeneration", {
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    }),
    "t5_encoder": ("T5EncoderModel", {
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    }),
    "videomae": ("VideoMAEForVideoClassification", _VISION | {"num_frames": 4}),
    "vision_encoder_decoder": ("VisionEncoderDecoderModel", {
        "encoder": _VISION | {"model_type": "vit"},
        "decoder": _ENCODER | {
            "model_type": "bert", "is_decoder": True, "add_cross_attention": True,
        },
    }),
    "vit": ("ViTForImageClassification", _VISION),
    "wav2vec2": ("Wav2Vec2ForCTC", _SPEECH),
    "whisper": ("WhisperForConditionalGeneration", _SEQ2SEQ | {
        "num_mel_bins": 16, "max_source_positions": 32, "max_target_positions": 32,
        "decoder_start_token_id": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }),
    "xlnet": ("XLNetForSequenceClassification", {
        "vocab_size": 96, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64,
    }),
}  # fmt: skip


def save(name: str, folder: Path) -> Path:
    """Write the small model `name` into `folder` as ``save_pretrained`` does; return its path."""
    import transformers

    kind, settings = SMALL[name]
    model = getattr(transformers, kind)
    path = folder / name
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that so small a model does not need
        torch.manual_seed(0)
        module = model(config=model.config_class(**settings))
        # Fresh weights leave much at zero, and zeros would hide mistakes.
        for parameter in module.parameters():
            if parameter.is_floating_point() and not bool(parameter.any()):
                torch.nn.init.normal_(parameter, std=0.02)
        module.save_pretrained(path)
    return path
