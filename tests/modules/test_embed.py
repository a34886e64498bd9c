import pytest
import torch
from padded import make_encoder

from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig

SEQUENCES = ["GGUC", "A", "ACGUACGUAC", "uuagt", "GGUC"]


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


def alone(encoder, sequence, layer=-1):
    tokens = torch.from_numpy(encoder.vocabulary.encode(sequence))
    bounds = torch.tensor([0, len(tokens)], dtype=torch.int32)
    with torch.inference_mode():
        return encoder.hidden_states(tokens, bounds, len(tokens))[layer]


@pytest.mark.parametrize("tokens_per_batch", [1, 10, 2048])
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_every_pooling_in_the_order_given(encoder, layer, tokens_per_batch):
    options = {"layer": layer, "tokens_per_batch": tokens_per_batch}
    mean = encoder.embed(SEQUENCES, **options)
    first = encoder.embed(SEQUENCES, pool="cls", **options)
    each = encoder.embed(SEQUENCES, pool=None, **options)
    for i, sequence in enumerate(SEQUENCES):
        states = alone(encoder, sequence, layer)
        assert each[i].shape == (len(sequence), 32)
        assert (each[i] - states[1:-1]).abs().max() < 1e-5
        assert (mean[i] - states[1:-1].mean(0)).abs().max() < 1e-5
        assert (first[i] - states[0]).abs().max() < 1e-5


def test_results_can_be_trained_on(encoder):
    probe = torch.nn.Linear(32, 1)
    probe(encoder.embed(SEQUENCES)).sum().backward()
    assert probe.weight.grad is not None


def test_modes_of_all_modules_are_restored():
    encoder = make_encoder(dropout=0.5).train()
    encoder.blocks[0].eval()
    modes = [module.training for module in encoder.modules()]
    assert torch.equal(encoder.embed(["ACGU"]), encoder.embed(["ACGU"]))
    assert [module.training for module in encoder.modules()] == modes


def test_nothing_and_the_empty_sequence(encoder):
    assert encoder.embed([]).shape == (0, 32)
    assert encoder.embed([], pool=None) == []
    assert encoder.embed([""], pool="cls").shape == (1, 32)
    assert encoder.embed([""], pool=None)[0].shape == (0, 32)


def test_codons():
    vocabulary = Vocabulary.named("codon")
    encoder = Encoder(EncoderConfig(1, 32, 2, 64, max_length=4), vocabulary)
    assert encoder.embed(["AUGGCUUAA"], pool=None)[0].shape == (3, 32)
    with pytest.raises(ValueError, match="sequence 1 has 5 tokens, the encoder takes 4"):
        encoder.embed(["AUG" * 5])


@pytest.mark.parametrize(
    ("sequences", "options", "message"),
    [
        (["ACGU", "A" * 1023], {}, "sequence 2 has 1023 tokens, the encoder takes 1022; crop it"),
        (["ACGU", ""], {}, "sequence 2 is empty, so it has no mean"),
        (["ACGU", "AC?"], {}, r"sequence 2: letter '\?' at position 3"),
        (["ACGU"], {"layer": 3}, "no layer 3: the encoder has 0 to 2"),
        (["ACGU"], {"pool": "max"}, "pool is 'mean', 'cls' or None, not 'max'"),
    ],
)
def test_errors_say_which_and_what_to_do(encoder, sequences, options, message):
    with pytest.raises(ValueError, match=message):
        encoder.embed(sequences, **options)


def test_a_string_is_no_list(encoder):
    with pytest.raises(TypeError, match="in brackets"):
        encoder.embed("ACGU")


def test_unknown_letters_on_request(encoder):
    assert encoder.embed(["AC?"], on_unknown="unk").isfinite().all()
