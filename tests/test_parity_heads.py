"""Outputs of published prediction heads, reproduced from weights under their own names."""

import pytest
import torch
import torch.nn.functional as F
from reference import REFERENCE, golden, pack, weights, write_multimolecule, write_official
from safetensors.torch import load_file

from rnafm.checkpoints import load_checkpoint
from rnafm.checkpoints.structure import (
    MULTIMOLECULE_STRUCTURE,
    build_structure,
    structure_options,
)
from rnafm.modules import AttentionContactHead, LinearContactHead, TokenHead

TOLERANCE = 1e-5


def case_weights(case):
    """Tensors of a case's head, without the case and the name of the head."""
    tensors = load_file(REFERENCE / "hf_heads.weights.safetensors")
    keys = [key for key in tensors if key.startswith(f"{case}/")]
    return {key.partition("_head.")[2]: tensors[key].float() for key in keys}


def case_outputs(case):
    tensors = load_file(REFERENCE / "hf_heads.io.safetensors")
    return {
        key.removeprefix(f"{case}."): tensors[key] for key in tensors if key.startswith(f"{case}.")
    }


@pytest.fixture
def encoded(tmp_path):
    encoder = load_checkpoint(write_multimolecule("rnafm", tmp_path / "model")).encoder.eval()
    packed = pack(golden("hf_rnafm")["input_ids"], encoder.vocabulary)[:3]
    with torch.no_grad():
        return encoder, packed, encoder(*packed)


def nucleotides(values, cu_seqlens):
    return [part[1:-1] for part in values.split(cu_seqlens.diff().tolist())]


@pytest.mark.parametrize(("case", "num_outputs"), [("token_binary", 1), ("token_multiclass", 3)])
def test_token_head(encoded, case, num_outputs):
    _, (_, cu_seqlens, _), embeddings = encoded
    head, wanted = TokenHead(64, num_outputs), case_outputs(case)
    head.load_state_dict(
        {key.replace("decoder", "out"): value for key, value in case_weights(case).items()}
    )
    rows = nucleotides(head(embeddings), cu_seqlens)
    for row, theirs in zip(rows, wanted["logits"], strict=True):
        assert (row - theirs[: len(row)]).abs().max() < TOLERANCE
    labels = torch.cat([own[: len(row)] for own, row in zip(wanted["labels"], rows, strict=True)])
    if num_outputs == 1:
        loss = F.binary_cross_entropy_with_logits(torch.cat(rows)[:, 0], labels)
    else:
        loss = F.cross_entropy(torch.cat(rows), labels.long())
    assert (loss - wanted["loss"]).abs() < TOLERANCE


def test_linear_contact_head(encoded):
    encoder, packed, embeddings = encoded
    head, wanted = LinearContactHead(encoder.config), case_outputs("contact_linear_binary")
    head.load_state_dict(case_weights("contact_linear_binary"))
    for logits, theirs in zip(head(encoder, *packed, embeddings), wanted["logits"], strict=True):
        length = len(logits)
        assert (logits - theirs[:length, :length, 0]).abs().max() < TOLERANCE


def test_structure_head(encoded):
    encoder, packed, embeddings = encoded
    tensors, table = case_weights("ss_resnet"), MULTIMOLECULE_STRUCTURE
    options = structure_options(tensors, table)
    assert options == {"num_layers": 4, "reduction_dim": 8, "channels": 8}
    head = build_structure(tensors, table, encoder.config, options, "golden weights").eval()
    wanted = case_outputs("ss_resnet")["logits"][..., 0]
    with torch.no_grad():
        maps = head(encoder, *packed, embeddings)
        longest = wanted.shape[1]
        (number,) = [i for i, logits in enumerate(maps) if len(logits) == longest]
        assert (maps[number] - wanted[number]).abs().max() < TOLERANCE
        # Theirs sees padding: shorter sequences come out the same only with zeros after them.
        for parts, theirs in zip(nucleotides(embeddings, packed[1]), wanted, strict=True):
            padded = F.pad(parts, (0, 0, 0, longest - len(parts)))
            assert (head.maps(head.reduce(padded[None]))[0] - theirs).abs().max() < TOLERANCE


def test_attention_contact_head(tmp_path):
    encoder = load_checkpoint(write_official("rnafm", tmp_path / "RNA-FM.pth")).encoder.eval()
    tensors, trained = golden("official_rnafm"), weights("official_rnafm")
    packed = pack(tensors["tokens"], encoder.vocabulary)[:3]
    head = AttentionContactHead(encoder.config)
    names = [f"regression.{leaf}" for leaf in ("weight", "bias")]
    head.load_state_dict({name: trained[f"contact_head.{name}"].float() for name in names})
    with torch.no_grad():
        maps = head(encoder, *packed, torch.empty(0))
    for logits, theirs in zip(maps, tensors["contacts"], strict=True):
        length = len(logits)
        assert (logits.sigmoid() - theirs[:length, :length]).abs().max() < TOLERANCE
        assert logits.std() > 1e-3
