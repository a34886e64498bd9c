import torch
import torch.nn.functional as F

from rnafm.modules import MaskedLMHead


def test_decoder_is_the_embedding_table_and_a_bias():
    head, table, embeddings = MaskedLMHead(16, 7), torch.randn(7, 16), torch.randn(5, 16)
    torch.nn.init.normal_(head.bias)
    logits = head(embeddings, table)
    hidden = embeddings @ head.dense.weight.T + head.dense.bias
    hidden = F.layer_norm(hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)), (16,))
    assert (logits - hidden @ table.T - head.bias).abs().max() < 1e-5
    assert [name for name, _ in head.named_parameters()] == [
        "bias", "dense.weight", "dense.bias", "norm.weight", "norm.bias",
    ]  # fmt: skip
