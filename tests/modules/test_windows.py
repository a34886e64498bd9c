from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from batches import RNA, random_batch
from hypothesis import given
from hypothesis import strategies as st
from padded import make_encoder
from torch import nn

from rnafm.modules import cut_windows, embed_long, stitch_maps
from rnafm.modules.windows import window_starts

LIMIT = 12


class Stub(nn.Module):
    """Takes 12 nucleotides, and gives what ``function`` makes of tokens and windows."""

    def __init__(self, function):
        super().__init__()
        self.config, self.function = SimpleNamespace(max_length=LIMIT), function

    def forward(self, tokens, cu_seqlens, max_seqlen):
        sizes = cu_seqlens.diff()
        assert int(cu_seqlens[-1]) == len(tokens) and int(sizes.max()) == max_seqlen <= LIMIT + 2
        return self.function(tokens, sizes.long())[:, None].float()


def pack(lengths, seed=0):
    batch = random_batch(lengths, seed=seed)
    return batch.tokens, batch.cu_seqlens, batch.max_seqlen


@given(length=st.integers(0, 200), window=st.integers(1, 40), data=st.data())
def test_windows_cover_every_position(length, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    starts = window_starts(length, window, overlap)
    size = min(length, window)
    assert starts[0] == 0 and starts[-1] + size == length
    steps = [after - before for before, after in pairwise(starts)]
    assert all(0 < step <= window - overlap for step in steps)
    assert not steps or max(steps) - min(steps) <= 1
    # One window fewer could not share as much.
    assert len(starts) == 1 or (len(starts) - 2) * (window - overlap) + window < length


@given(lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4), overlap=st.integers(0, 11))
def test_every_token_comes_back_to_its_place(lengths, overlap):
    tokens = torch.arange(sum(lengths) + 2 * len(lengths))
    bounds = torch.tensor([0, *(length + 2 for length in lengths)]).cumsum(0).int()
    same = Stub(lambda tokens, sizes: tokens)  # noqa: ARG005
    found = embed_long(same, tokens, bounds, max(lengths) + 2, overlap)
    assert (found[:, 0] - tokens).abs().max() < 1e-4


def test_windows_have_their_own_special_tokens():
    tokens, bounds, _ = pack([30, 5])
    windows = cut_windows(tokens, bounds, LIMIT)
    assert windows.places == [(0, 0, 12), (0, 9, 12), (0, 18, 12), (1, 0, 5)]
    parts = windows.tokens.split(windows.cu_seqlens.diff().tolist())
    assert all(part[0] == RNA.cls_id and part[-1] == RNA.eos_id for part in parts)
    assert torch.equal(parts[1][1:-1], tokens[10:22])
    totals = torch.zeros(len(tokens)).index_add(0, windows.source, windows.weights)
    assert (totals - 1).abs().max() < 1e-6


def test_short_sequences_go_through_the_encoder_itself():
    encoder = make_encoder(max_length=LIMIT)
    tokens, bounds, longest = pack([12, 3, 7])
    calls = []
    encoder.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    wanted = encoder(tokens, bounds, longest)
    assert torch.equal(embed_long(encoder, tokens, bounds, longest), wanted)
    assert torch.equal(embed_long(encoder, tokens, bounds, 100), wanted)  # only an upper bound
    assert all(inputs[0] is tokens and inputs[2] == 14 for inputs in calls) and len(calls) == 3


def test_inside_one_window_the_embedding_is_the_window_s_own():
    encoder = make_encoder(max_length=LIMIT)
    tokens, bounds, longest = pack([30, 4])
    found = embed_long(encoder, tokens, bounds, longest, overlap=3)  # windows at 0, 9, 18
    alone = torch.cat([tokens[:1], tokens[10:22], tokens[31:32]])
    window = encoder(alone, torch.tensor([0, 14], dtype=torch.int32), 14)
    assert (found[13:19] - window[4:10]).abs().max() < 1e-5  # nucleotides 12 to 17
    assert (found[11] - window[2]).abs().max() > 1e-3  # nucleotide 10 is in the first window, too
    short = encoder(tokens[32:], torch.tensor([0, 6], dtype=torch.int32), 6)
    assert (found[32:] - short).abs().max() < 1e-5


def test_special_tokens_are_means_of_the_windows():
    numbers = Stub(lambda _, sizes: torch.repeat_interleave(torch.arange(len(sizes)), sizes))
    tokens, bounds, longest = pack([30])  # three windows
    found = embed_long(numbers, tokens, bounds, longest)
    assert found[0] == found[-1] == 1


def test_one_window_fades_into_the_next():
    numbers = Stub(lambda _, sizes: torch.repeat_interleave(torch.arange(len(sizes)), sizes))
    tokens, bounds, longest = pack([18])  # windows at 0 and 6, with 6 in common
    found = embed_long(numbers, tokens, bounds, longest, overlap=6)[1:-1, 0]
    assert torch.equal(found[:6], torch.zeros(6)) and torch.equal(found[12:], torch.ones(6))
    steps = found.diff()[5:12]
    assert (steps > 0.1).all() and (steps < 0.2).all()  # a straight line: 1/7, 2/7, ... 6/7


def test_gradients_reach_the_encoder_and_every_token():
    encoder = make_encoder(max_length=LIMIT)
    tokens, bounds, longest = pack([40])
    found = embed_long(encoder, tokens, bounds, longest)
    rows = []
    encoder.final_norm.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    found = embed_long(encoder, tokens, bounds, longest)
    (found * torch.randn_like(found)).sum().backward(inputs=[rows[0], *encoder.parameters()])
    assert rows[0].grad.abs().sum(1).min() > 0
    assert encoder.embed_positions.weight.grad[2:16].any(1).all()


def test_no_window_sees_another_sequence():
    encoder = make_encoder(max_length=LIMIT)
    encoder.embed_tokens.weight.data[RNA.ids["N"]] = torch.nan
    tokens, bounds, longest = pack([30, 5, 25])
    wanted = embed_long(encoder, tokens, bounds, longest)
    poisoned = tokens.clone()
    poisoned[1:31] = RNA.ids["N"]
    found = embed_long(encoder, poisoned, bounds, longest)
    assert found[:32].isnan().all() and torch.equal(found[32:], wanted[32:])


def test_half_precision_stays_half_precision():
    encoder = make_encoder(max_length=LIMIT).bfloat16()
    assert embed_long(encoder, *pack([30])).dtype == torch.bfloat16


def test_maps_are_means_where_covered_and_filled_where_not():
    tokens, bounds, _ = pack([18, 5])
    windows = cut_windows(tokens, bounds, LIMIT, overlap=6)
    maps = [torch.full((12, 12), 1.0), torch.full((12, 12), 3.0), torch.full((5, 5), 7.0)]
    long, short = stitch_maps(windows, maps, torch.tensor(-9.0))
    assert short is maps[2] and long.shape == (18, 18)
    assert long[0, 11] == 1 and long[17, 6] == 3 and long[8, 8] == long[6, 11] == 2
    assert long[0, 12] == long[17, 5] == -9 and torch.equal(long, long.T)


def test_windows_that_cannot_overlap_by_so_much():
    tokens, bounds, longest = pack([30])
    with pytest.raises(
        ValueError, match=r"overlap \(12\): windows of 12 nucleotides share 0 to 11"
    ):
        embed_long(make_encoder(max_length=LIMIT), tokens, bounds, longest, overlap=12)
