import pytest
import torch
from padded import make_encoder

from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rnafm.modules import MaskedLMHead
from rnafm.tools.convert import convert


@pytest.fixture
def source(tmp_path):
    encoder = make_encoder()
    path = tmp_path / "source.safetensors"
    save_checkpoint(Checkpoint(encoder, MaskedLMHead(32, len(encoder.vocabulary))), path)
    return path


def test_there_and_back_with_the_proof(source, tmp_path, capsys):
    convert(source, tmp_path / "RNA-FM.pth", "official")
    out = capsys.readouterr().out
    assert "official-rna (25)" in out and "rna (26)" in out
    assert "- rows left out, the vocabulary 'official-rna' has no such tokens: . X * I" in out
    assert "Largest difference between the two: " in out
    convert(tmp_path / "RNA-FM.pth", tmp_path / "hf", "multimolecule", vocabulary="rna-28")
    convert(tmp_path / "hf", tmp_path / "back.safetensors", vocabulary="rna")
    ids = [token for token in range(26) if token != 5]
    first, last = (load_checkpoint(path) for path in (source, tmp_path / "back.safetensors"))
    trained = [i for i in ids if i in last.trained_ids]
    rows = [each.encoder.embed_tokens.weight[trained] for each in (first, last)]
    assert len(trained) == 21 and torch.equal(*rows)


def test_an_encoder_alone(source, tmp_path, capsys):
    save_checkpoint(Checkpoint(load_checkpoint(source).encoder), source)
    convert(source, tmp_path / "hf", "multimolecule")
    assert load_checkpoint(tmp_path / "hf").head is None
    assert "Largest difference between the two: 0 " in capsys.readouterr().out


def test_options_reach_the_weights(source, tmp_path):
    target = tmp_path / "a.safetensors"
    convert(source, target, zero_mask_row=True, layer_norm_eps=1e-6)
    found = load_checkpoint(target)
    assert not found.encoder.embed_tokens.weight[4].any() and found.config.layer_norm_eps == 1e-6


def test_nothing_is_overwritten_unasked(source, tmp_path):
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"a\.safetensors exists; give --overwrite true"):
        convert(source, target)
    assert target.read_bytes() == b"precious"
    with pytest.raises(ValueError, match="source and target are the same"):
        convert(source, source, overwrite=True)
    convert(source, target, overwrite=True)
    assert load_checkpoint(target).head is not None


def test_a_file_that_says_something_else_is_reported(source, tmp_path, monkeypatch):
    from rnafm.checkpoints import base

    def spoiled(state, path, metadata):
        next(value for name, value in state.items() if "query.weight" in name)[0] += 1
        return save_file(state, path, metadata)

    save_file = base.save_file
    monkeypatch.setattr(base, "save_file", spoiled)
    with pytest.raises(ValueError, match=r"gives other logits than .* do not use it"):
        convert(source, tmp_path / "mine", layout="multimolecule")
