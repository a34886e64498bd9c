import json

import pytest
import torch
from batches import RNA, TINY

from rnafm.checkpoints import Checkpoint, save_checkpoint
from rnafm.cli import main
from rnafm.modules import Encoder, MaskedLMHead
from rnafm.tools.fill_mask import fill_mask

DOT = RNA.ids["."]


@pytest.fixture
def checkpoint(tmp_path):
    """A model that always prefers G, but for a token that it was never trained on."""
    encoder, head = Encoder(TINY, RNA), MaskedLMHead(TINY.embed_dim, len(RNA))
    with torch.no_grad():
        head.bias[RNA.ids["G"]] = 3
        head.bias[DOT] = 9
        head.bias[RNA.cls_id] = 5
    trained = tuple(i for i in range(len(RNA)) if i != DOT)
    path = tmp_path / "x.safetensors"
    save_checkpoint(Checkpoint(encoder, head, trained_ids=trained), path)
    return path


def test_only_trained_letters_are_ranked_unless_asked(checkpoint, capsys):
    fill_mask(["ac<mask>u<mask>"], checkpoint, top=3, json=True)
    (result,) = json.loads(capsys.readouterr().out)
    assert result["filled"] == "ACGUG"
    assert [mask["position"] for mask in result["masks"]] == [3, 5]
    for mask in result["masks"]:
        assert mask["tokens"][0]["token"] == "G"
        assert len(mask["tokens"]) == 3

    fill_mask(["ac<mask>u"], checkpoint, all_tokens=True, json=True)
    (result,) = json.loads(capsys.readouterr().out)
    assert [each["token"] for each in result["masks"][0]["tokens"]][:3] == [".", "<cls>", "G"]


def test_probabilities_are_those_of_the_model(checkpoint, capsys):
    from rnafm.checkpoints import load_checkpoint

    fill_mask(["ac<mask>u"], checkpoint, top=19, json=True)
    (result,) = json.loads(capsys.readouterr().out)
    found = {each["token"]: each["probability"] for each in result["masks"][0]["tokens"]}
    assert sum(found.values()) == pytest.approx(1, abs=1e-4)
    source = load_checkpoint(checkpoint)
    tokens = torch.from_numpy(RNA.encode("ac<mask>u")).long()
    bounds = torch.tensor([0, 6], dtype=torch.int32)
    embeddings = source.encoder.eval()(tokens, bounds, 6)[3:4]
    logits = source.head(embeddings, source.encoder.embed_tokens.weight)[0]
    ids = [RNA.ids[token] for token in found]
    expected = logits[ids].softmax(0).tolist()
    assert list(found.values()) == pytest.approx(expected, abs=1e-5)


def test_a_table_through_the_command(checkpoint, capsys):
    main(["fill-mask", "--checkpoint", str(checkpoint), "GGUC<mask>CUC", "A<mask>"])
    out = capsys.readouterr().out
    assert "GGUC<mask>CUC" in out and "most likely: GGUCGCUC" in out and "most likely: AG" in out


def test_what_cannot_be_filled_is_said(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="'ACGU' has no <mask>"):
        fill_mask(["ACGU"], checkpoint)
    with pytest.raises(ValueError, match=r"letter 'J' at position 2"):
        fill_mask(["AJ<mask>"], checkpoint)
    with pytest.raises(ValueError, match=r"1,?024 tokens does not fit|1030 tokens does not fit"):
        fill_mask(["A" * 1027 + "<mask>"], checkpoint)
    save_checkpoint(Checkpoint(Encoder(TINY, RNA)), tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match="has no masked-LM head"):
        fill_mask(["A<mask>"], tmp_path / "y.safetensors")
