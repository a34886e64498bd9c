"""The profile of a step names its parts, counts each once and writes a trace that opens."""

import gzip
import importlib
import json
import sys

import pytest
from runs import ROOT


@pytest.fixture(scope="module")
def profile_step():
    return importlib.import_module("profile_step")


@pytest.mark.filterwarnings("ignore:.*Profiler clears events")
def test_a_step_of_a_tiny_encoder(profile_step, tmp_path):
    setting = profile_step.Setting(tokens=256, steps=1)
    path = tmp_path / "runs" / "trace.json.gz"
    found = profile_step.measure(setting, path)
    spent = found["groups"]
    assert tuple(spent) == profile_step.GROUPS and min(spent.values()) > 0
    assert spent["matrix products"] > spent["masking"]
    assert found["tokens"] == 256 and min(found["least"].values()) > 0
    with gzip.open(path) as file:
        names = {event["name"] for event in json.load(file)["traceEvents"]}
    assert {"rnafm.masking", "rnafm.optimizer", "aten::addmm"} <= names
    lines = profile_step.table(setting, found)
    assert lines[0] == "tiny on cpu, 256 tokens" and lines[1].endswith("tokens/s")
    assert [line.split("  ")[0] for line in lines[3:9]] == list(profile_step.GROUPS)
    assert "100.0%" in lines[9]
    shares = [float(line.split()[-3 if i < 4 else -1][:-1]) for i, line in enumerate(lines[3:9])]
    assert sum(shares) == pytest.approx(100, abs=0.4)
    assert lines[-1].startswith("Most to gain: ")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["aten::addmm", "aten::linear"], "matrix products"),
        (["aten::mm", "AddmmBackward0"], "matrix products"),
        (["aten::bmm", "BmmBackward0"], "attention"),
        (["aten::_flash_attention_forward", "torch_attn::_varlen_attn"], "attention"),
        (["aten::copy_", "aten::scaled_dot_product_attention"], "attention"),
        (["triton_poi_fused_gelu_3", "CompiledFunction"], "elementwise"),
        (["aten::native_layer_norm_backward"], "elementwise"),
        (["aten::copy_", "aten::to"], "elementwise"),
        (["aten::add", "rnafm.masking"], "masking"),
        (["aten::_fused_adamw_", "rnafm.optimizer"], "optimizer"),
        (["aten::embedding"], "other"),
    ],
)
def test_what_operations_are(profile_step, names, kind):
    assert profile_step.group(names) == kind


def test_the_script_does_not_hide_a_module_of_python():
    own = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert not own & sys.stdlib_module_names
