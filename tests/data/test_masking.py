import pytest
import torch
from batches import CODON, RNA, random_batch
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.batch import Batch
from rnafm.data.masking import Masked, Masking, mask_tokens


def mask(batch, vocabulary, masking):
    """Without what is left over, and in the order of the positions."""
    tokens, positions, labels = mask_tokens(batch, vocabulary, masking)
    filled = labels != -100
    assert not filled.all() and len(labels) % 128 == 0
    assert (positions[~filled] < len(tokens)).all()
    positions, order = positions[filled].sort()
    return Masked(tokens, positions, labels[filled][order])


@pytest.mark.parametrize("vocabulary", [RNA, CODON], ids=["rna", "codon"])
@pytest.mark.parametrize(
    "masking", [Masking(), Masking(fraction=0.3, mask=0.5, random=0.5), Masking(span=4)]
)
def test_shares_are_those_asked_for(vocabulary, masking):
    batch = random_batch([997] * 200, vocabulary)
    masked = mask(batch, vocabulary, masking)
    original = batch.tokens.long()
    chosen = len(masked.positions)
    assert abs(chosen / (997 * 200) - masking.fraction) < 0.001

    new = masked.tokens[masked.positions]
    is_mask, kept = new == vocabulary.mask_id, new == masked.labels
    sigma = 0.5 / chosen**0.5
    assert abs(is_mask.float().mean() - masking.mask) < 5 * sigma
    assert abs(kept.float().mean() - (1 - masking.mask - masking.random)) < 5 * sigma
    assert masked.labels.equal(original[masked.positions])
    untouched = torch.ones(len(original), dtype=torch.bool)
    untouched[masked.positions] = False
    assert masked.tokens[untouched].equal(original[untouched])

    # A random token is another standard one, all of them equally likely.
    random = ~is_mask & ~kept
    counts = torch.bincount(new[random], minlength=len(vocabulary))
    assert counts.nonzero().flatten().tolist() == sorted(vocabulary.standard_ids)
    share = counts[list(vocabulary.standard_ids)] / counts.sum()
    assert (share * len(share) - 1).abs().max() < 6 * (len(share) / counts.sum()) ** 0.5


def test_masks_are_the_same_where_half_precision_is_the_default():
    batch = random_batch([1021] * 20)
    wanted = mask(batch, RNA, Masking())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = mask(batch, RNA, Masking())
    finally:
        torch.set_default_dtype(before)
    assert all(map(torch.equal, found, wanted))


def test_all_random_replacements_differ():
    batch = random_batch([500] * 20)
    masked = mask(batch, RNA, Masking(mask=0.0, random=1.0))
    assert (masked.tokens[masked.positions] != masked.labels).all()


def test_positions_are_chosen_evenly():
    counts = torch.zeros(102)
    for first in range(0, 6000, 2000):
        batch = random_batch([100] * 2000, first_index=first)
        positions = mask(batch, RNA, Masking()).positions % 102
        counts += torch.bincount(positions, minlength=102)
    assert counts[0] == counts[101] == 0
    assert ((counts[1:-1] / 6000 - 0.15).abs() < 5 * (0.15 * 0.85 / 6000) ** 0.5).all()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 2**63))
def test_every_sequence_has_one_and_no_special_token_is_chosen(lengths, key):
    batch = random_batch(lengths, key=key)
    masked = mask(batch, RNA, Masking())
    assert (masked.labels >= 6).all()
    per_sequence = torch.bincount(
        torch.searchsorted(batch.cu_seqlens, masked.positions, right=True) - 1,
        minlength=len(lengths),
    )
    for count, length in zip(per_sequence.tolist(), lengths, strict=True):
        assert max(1, int(0.15 * length)) <= count <= max(1, int(0.15 * length) + 1)


def test_an_empty_sequence_has_nothing_to_hide():
    batch = random_batch([0, 5])
    assert mask(batch, RNA, Masking()).positions.min() > 2


def test_masks_do_not_depend_on_the_batch_around():
    whole = random_batch([40, 41, 42, 43])
    tail = Batch(
        whole.tokens[whole.cu_seqlens[2] :],
        whole.cu_seqlens[2:] - whole.cu_seqlens[2],
        45,
        whole.indices[2:],
        whole.key,
    )
    for masking in (Masking(), Masking(span=3)):
        expected = mask(whole, RNA, masking).tokens[whole.cu_seqlens[2] :]
        assert mask(tail, RNA, masking).tokens.equal(expected)


def test_another_key_gives_other_masks():
    one = mask(random_batch([200], key=1), RNA, Masking()).positions
    two = mask(random_batch([200], key=2), RNA, Masking()).positions
    assert one.tolist() != two.tolist()
    assert one.tolist() == mask(random_batch([200], key=1), RNA, Masking()).positions.tolist()


def test_spans_are_runs():
    masked = mask(random_batch([1000] * 50), RNA, Masking(span=5))
    gaps = masked.positions.diff()
    runs = 1 + int((gaps != 1).sum())
    assert 3.5 < len(masked.positions) / runs < 7  # neighbouring spans join, ends are cut


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, r"masking.fraction \(0.0\)"),
        ({"mask": 0.8, "random": 0.3}, r"masking.mask \(0.8\) and masking.random \(0.3\)"),
        ({"span": 0}, r"masking.span \(0\)"),
    ],
)
def test_impossible_shares_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Masking(**options)
