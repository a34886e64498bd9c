import numpy as np
import pytest
import torch
from batches import CODON, RNA, TINY

from rnafm.checkpoints import Checkpoint, save_checkpoint
from rnafm.cli import main
from rnafm.data.fasta import Record, write_fasta
from rnafm.modules import Encoder
from rnafm.tools import embed as tool
from rnafm.tools.embed import embed

SEQUENCES = ["ACGU" * 30, "ggcu", "ACGUN" * 50, "U", "ACGT" * 10, "GG"]
RECORDS = [Record(f"s{i}", sequence) for i, sequence in enumerate(SEQUENCES)]


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(1)
    encoder = Encoder(TINY, RNA)
    save_checkpoint(Checkpoint(encoder), tmp_path / "x.safetensors")
    return encoder, tmp_path / "x.safetensors"


@pytest.fixture
def fasta(tmp_path):
    write_fasta(tmp_path / "x.fa.gz", RECORDS)
    return tmp_path / "x.fa.gz"


@pytest.mark.parametrize("chunk", [1, 150, 10_000])
@pytest.mark.parametrize("pool", ["mean", "cls", "none"])
def test_embeddings_are_in_order_whatever_the_pieces(
    model, fasta, tmp_path, monkeypatch, chunk, pool
):
    monkeypatch.setattr(tool, "_CHUNK_TOKENS", 1)
    encoder, path = model
    embed(fasta, path, tmp_path / "x.npz", pool=pool, tokens_per_batch=chunk)
    with np.load(tmp_path / "x.npz") as file:
        names, rows = list(file["names"]), file["embeddings"]
        offsets = file.get("offsets")
    assert names == [record.name for record in RECORDS]
    for number, sequence in enumerate(SEQUENCES):  # each alone, in a plain forward pass
        tokens = torch.from_numpy(RNA.encode(sequence)).long()
        bounds = torch.tensor([0, len(tokens)], dtype=torch.int32)
        with torch.inference_mode():
            states = encoder.eval()(tokens, bounds, len(tokens)).numpy()
        if pool == "none":
            found = rows[offsets[number] : offsets[number + 1]]
            np.testing.assert_allclose(found, states[1:-1], atol=1e-5)
        else:
            expected = states[0] if pool == "cls" else states[1:-1].mean(0)
            np.testing.assert_allclose(rows[number], expected, atol=1e-5)


def test_any_layer(model, fasta, tmp_path):
    encoder, path = model
    embed(fasta, path, tmp_path / "x.npz", layer=0)
    with np.load(tmp_path / "x.npz") as file:
        expected = encoder.embed(SEQUENCES, layer=0).numpy()
        np.testing.assert_allclose(file["embeddings"], expected, atol=1e-6)
    with pytest.raises(ValueError, match="there is no layer 7"):
        embed(fasta, path, tmp_path / "y.npz", layer=7)
    assert not (tmp_path / "y.npz").exists()


def test_codons_have_one_embedding_each(tmp_path):
    save_checkpoint(Checkpoint(Encoder(TINY, CODON)), tmp_path / "x.safetensors")
    write_fasta(tmp_path / "x.fa", [Record("a", "AUGGCUUAA"), Record("b", "AUG")])
    embed(tmp_path / "x.fa", tmp_path / "x.safetensors", tmp_path / "x.npz", pool="none")
    with np.load(tmp_path / "x.npz") as file:
        assert file["offsets"].tolist() == [0, 3, 4]


def test_long_sequences_are_an_error_or_counted(model, tmp_path, capsys):
    _, path = model
    fasta, out = tmp_path / "long.fa", tmp_path / "x.npz"
    write_fasta(fasta, [Record("a", "ACGU"), Record("b", "A" * 1023), Record("c", "GG")])
    with pytest.raises(
        ValueError, match=r"long.fa:b: 1,023 nt are more than the model's 1,022.*crop"
    ):
        embed(fasta, path, out)
    assert not out.exists()
    main(
        [
            "embed",
            "--fasta",
            str(fasta),
            "--checkpoint",
            str(path),
            "--out",
            str(out),
            "--too-long=skip",
        ]
    )
    assert "2 embeddings of width 32" in (text := capsys.readouterr().out)
    assert "1 sequences longer than 1,022 nt were left out" in text
    with np.load(out) as file:
        assert list(file["names"]) == ["a", "c"]
    embed(fasta, path, out, too_long="crop")
    assert "1 sequences longer than 1,022 nt were cut" in capsys.readouterr().out
    with np.load(out) as file:
        assert list(file["names"]) == ["a", "b", "c"]


def test_an_unknown_letter_names_file_record_and_place(model, tmp_path):
    write_fasta(tmp_path / "bad.fa", [Record("a", "ACGU"), Record("b", "ACJ")])
    with pytest.raises(ValueError, match=r"bad.fa:b: letter 'J' at position 3"):
        embed(tmp_path / "bad.fa", model[1], tmp_path / "x.npz")
    with pytest.raises(SystemExit, match=r"rnafm embed: .*bad.fa:b: letter 'J'"):
        main(
            [
                "embed",
                f"--fasta={tmp_path / 'bad.fa'}",
                f"--checkpoint={model[1]}",
                f"--out={tmp_path / 'x.npz'}",
            ]
        )
    embed(tmp_path / "bad.fa", model[1], tmp_path / "x.npz", on_unknown="unk")


def test_letters_without_trained_weights_are_counted(tmp_path, capsys):
    trained = tuple(i for i in range(len(RNA)) if RNA.tokens[i] not in ".X*I")
    save_checkpoint(Checkpoint(Encoder(TINY, RNA), trained_ids=trained), tmp_path / "x.safetensors")
    write_fasta(tmp_path / "x.fa", [Record("a", "ACGU"), Record("b", "ACxGU"), Record("c", "A*")])
    embed(tmp_path / "x.fa", tmp_path / "x.safetensors", tmp_path / "x.npz")
    assert (
        "2 sequences have letters that the model was not trained on (* . I X)"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("has_amx", [True, False])
def test_half_precision_where_it_is_faster(model, fasta, tmp_path, monkeypatch, has_amx):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    encoder, path = model
    if not has_amx:
        with pytest.raises(ValueError, match="--precision bf16 is slower than 32 on this"):
            embed(fasta, path, tmp_path / "x.npz", precision="bf16")
        assert not (tmp_path / "x.npz").exists()
        return
    embed(fasta, path, tmp_path / "x.npz", precision="bf16")
    with np.load(tmp_path / "x.npz") as file:
        found, wanted = file["embeddings"], encoder.embed(SEQUENCES).numpy()
    assert found.dtype == np.float32
    assert 0 < np.linalg.norm(found - wanted) < 2e-2 * np.linalg.norm(wanted)
