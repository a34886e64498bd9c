import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.vocabulary import BUILT_IN, Vocabulary

REFERENCE = Path(__file__).parents[1] / "fixtures" / "reference"
CASES = json.loads((REFERENCE / "tokenizer_cases.json").read_text())
PUBLISHED = json.loads((REFERENCE / "vocabs.json").read_text())
RNA = Vocabulary.named("rna")


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("rna", "hf_rna_26_legacy"),
        ("rna-28", "hf_rna_28"),
        ("codon", "hf_codon_131"),
        ("official-rna", "official_rna_25"),
        ("official-codon", "official_codon_73"),
    ],
)
def test_built_in_vocabularies_are_the_published_ones(name, published):
    vocabulary = Vocabulary.named(name)
    assert list(vocabulary.tokens) == PUBLISHED[published]
    assert vocabulary.name == name


@pytest.mark.parametrize(("text", "ids"), CASES["rna"])
def test_rna_encodes_as_the_reference(text, ids):
    assert Vocabulary.named("rna-28").encode(text, on_unknown="unk").tolist() == ids


@pytest.mark.parametrize(("text", "ids"), CASES["codon"])
def test_codons_encode_as_the_reference(text, ids):
    vocabulary = Vocabulary.named("codon")
    if ids == "ValueError":
        with pytest.raises(ValueError, match="not a whole number of codons"):
            vocabulary.encode(text, on_unknown="unk")
    else:
        assert vocabulary.encode(text, on_unknown="unk").tolist() == ids


@pytest.mark.parametrize(("name", "case"), [("official-rna", "official_rna")])
def test_official_alphabet_encodes_as_the_reference(name, case):
    vocabulary = Vocabulary.named(name)
    for text, ids in CASES[case]:
        if text != text.upper() or "<" in text:
            continue  # ours folds case and knows special strings; the reference does neither
        got = vocabulary.encode(text, on_unknown="unk", replace_t=False).tolist()
        assert got == ids, text


def test_t_is_read_as_u_unless_switched_off():
    assert RNA.encode("ACGT").tolist() == RNA.encode("ACGU").tolist()
    with pytest.raises(ValueError, match=r"record 7: letter 'T' at position 4"):
        RNA.encode("ACGT", replace_t=False, name="record 7")


def test_unknown_letters_name_letter_position_and_record():
    with pytest.raises(ValueError, match=r"x: letter 'J' at position 10 is not in .*'rna'.*unk"):
        RNA.encode("AC<mask>GJ", name="x")
    with pytest.raises(ValueError, match=r"two: letter 'é' at position 2"):
        RNA.encode_many(["ACGU", "AéC"], names=["one", "two"])
    with pytest.raises(ValueError, match=r"sequence 2: codon 'AUX' at position 4"):
        Vocabulary.named("codon").encode_many(["AUG", "AAAAUXAAA"])
    tokens, lengths = RNA.encode_many(["AJ", "éG"], on_unknown="unk")
    assert tokens.tolist() == [6, 3, 3, 8]
    assert lengths.tolist() == [2, 2]


def test_a_codon_error_names_the_record():
    with pytest.raises(ValueError, match=r"gene2: 4 letters are not a whole number of codons"):
        Vocabulary.named("codon").encode_many(["AUG", "AUGA"], names=["gene1", "gene2"])


def test_a_vocabulary_needs_its_roles_once_each():
    with pytest.raises(ValueError, match="missing from the vocabulary: <pad>"):
        Vocabulary(RNA.tokens[1:])
    with pytest.raises(ValueError, match="appear twice in the vocabulary: A"):
        Vocabulary((*RNA.tokens, "A"))
    with pytest.raises(ValueError, match=r"no vocabulary 'dna'.*official-codon"):
        Vocabulary.named("dna")
    with pytest.raises(ValueError, match="at most 254 tokens, this one 306"):
        Vocabulary((*RNA.tokens, *map(str, range(280))))
    with pytest.raises(ValueError, match="letters_per_token is 1 or 3, not 2"):
        Vocabulary(RNA.tokens, letters_per_token=2)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_vocabulary_survives_as_plain_values(name):
    vocabulary = Vocabulary.named(name)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary
    standard = [vocabulary.tokens[i] for i in vocabulary.standard_ids]
    assert len(standard) == 4**vocabulary.letters_per_token
    assert standard == sorted(standard)


@given(st.lists(st.text("ACGUN", max_size=30), max_size=8), st.sampled_from(["rna", "codon"]))
def test_encoding_many_is_encoding_each(sequences, name):
    vocabulary = Vocabulary.named(name)
    size = vocabulary.letters_per_token
    sequences = [sequence[: len(sequence) // size * size] for sequence in sequences]
    tokens, lengths = vocabulary.encode_many(sequences)
    assert tokens.dtype == np.uint8
    parts = np.split(tokens, np.cumsum(lengths))[:-1] if sequences else []
    for sequence, part in zip(sequences, parts, strict=True):
        assert part.tolist() == vocabulary.encode(sequence, special=False).tolist()
        assert vocabulary.decode(part) == sequence


def test_decode_can_leave_special_tokens_out():
    assert RNA.decode(RNA.encode("AC<mask>G"), special=False) == "ACG"
