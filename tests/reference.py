"""Files as the published packages write them, made from the golden tensors, and their contents."""

import json
from argparse import Namespace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

REFERENCE = Path(__file__).parent / "fixtures" / "reference"
NAMES = ("rnafm", "mrnafm")


def info(name):
    return json.loads((REFERENCE / f"{name}_small.json").read_text())


def golden(name):
    return load_file(REFERENCE / f"{name}_small.io.safetensors")


def weights(name):
    return load_file(REFERENCE / f"{name}_small.weights.safetensors")


def write_official(name, path, prefix="encoder.encoder.", **extra):
    """The ``.pth`` file of the fm package: options as a Namespace, weights under a prefix."""
    model = {f"{prefix}{key}": tensor for key, tensor in weights(f"official_{name}").items()}
    torch.save(
        {"args": Namespace(**info(f"official_{name}")["args"]), "model": model} | extra, path
    )
    return path


def write_multimolecule(name, directory, rename=lambda key: key, **changes):
    """A directory as MultiMolecule writes it; ``changes`` go to its configuration."""
    values = info(f"hf_{name}")
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(values["config"] | changes))
    (directory / "vocab.txt").write_text("\n".join(values["vocab"]) + "\n")
    tensors = {rename(key): tensor for key, tensor in weights(f"hf_{name}").items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


def pack(padded, vocabulary):
    """Padded ids -> packed ids, cu_seqlens, max_seqlen, and where the real tokens are, (B, L)."""
    real = padded != vocabulary.pad_id
    lengths = real.sum(1)
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(torch.int32)
    return padded[real], cu_seqlens, int(lengths.max()), real
