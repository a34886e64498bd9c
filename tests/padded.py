"""An encoder written out once more, with padding and a mask, to hold the packed one against."""

import torch
import torch.nn.functional as F

from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig

SMALL = {"num_layers": 2, "embed_dim": 32, "num_heads": 4, "ffn_dim": 64}


def make_encoder(**changes):
    """A small encoder whose weights are large enough for attention to matter."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**SMALL | changes), Vocabulary.named("rna"))
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


def make_pack(lengths, vocabulary, seed=0):
    """Random ids of sequences of so many tokens, special ones included: packed and padded."""
    generator = torch.Generator().manual_seed(seed)
    padded = torch.full((len(lengths), max(lengths)), vocabulary.pad_id)
    for row, length in zip(padded, lengths, strict=True):
        row[:length] = torch.randint(6, len(vocabulary), (length,), generator=generator)
        row[0] = vocabulary.cls_id
        if length > 1:
            row[length - 1] = vocabulary.eos_id
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return padded[padded != vocabulary.pad_id], cu_seqlens, max(lengths), padded


def padded_forward(encoder, padded):
    """Embeddings of padded ids, (B, L, D), from the weights of a packed encoder."""
    config = encoder.config
    real = padded != encoder.vocabulary.pad_id
    positions = real.cumsum(1) * real + 1
    hidden = encoder.embed_tokens.weight[padded] + encoder.embed_positions.weight[positions]
    hidden = _norm(hidden, encoder.embed_norm)
    for block in encoder.blocks:
        states = _norm(hidden, block.attention_norm) @ block.qkv.weight.T + block.qkv.bias
        shape = (*padded.shape, config.num_heads, -1)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in states.chunk(3, -1))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~real[:, None, None], -torch.inf).softmax(-1)
        attended = (weights @ value).transpose(1, 2).flatten(2)
        hidden = hidden + attended @ block.out.weight.T + block.out.bias
        inner = _norm(hidden, block.ffn_norm) @ block.fc1.weight.T + block.fc1.bias
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        hidden = hidden + inner @ block.fc2.weight.T + block.fc2.bias
    return _norm(hidden, encoder.final_norm)


def _norm(hidden, layer):
    return (
        hidden
        if layer is None
        else F.layer_norm(hidden, layer.weight.shape, layer.weight, layer.bias)
    )
