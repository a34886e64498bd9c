"""The shipped sweeps are what `wandb agent` can run."""

from types import SimpleNamespace

import pytest
import wandb
import wandb.wandb_agent
import yaml
from runs import ROOT
from tracked import Page

from rnafm.cli import main

SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
IDS = [path.stem for path in SWEEPS]


def choose(parameter):
    """Values as the server sends them: the least one, or any of some."""
    return parameter["min"] / 7 if "min" in parameter else parameter["values"][-1]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What the real agent starts for a sweep, and with which environment."""
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # it sets them for its children
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    calls = []

    class Process:
        def __init__(self, command, env, **_):
            calls.append((command, env))

    monkeypatch.setattr(wandb.wandb_agent, "AgentProcess", Process)

    def start(sweep):
        agent = SimpleNamespace(
            _sweep_command=list(sweep["command"]),
            _function=None,
            _in_jupyter=False,
            _forward_signals=False,
            _run_processes={},
        )
        chosen = {name: choose(each) for name, each in sweep["parameters"].items()}
        command = {
            "run_id": "run1",
            "program": sweep["program"],
            "args": {name: {"value": value} for name, value in chosen.items()},
        }
        wandb.wandb_agent.Agent._command_run(agent, command)
        return (*calls[-1], chosen)

    return start


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=IDS)
def test_a_sweep_starts_runs_with_its_values(path, started, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    words, _, chosen = started(sweep)
    assert words[:3] == ["/usr/bin/env", "rnafm", "fit"]
    with pytest.raises(SystemExit) as exit_info:
        main([*words[2:], "--print_config"])
    assert exit_info.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, value in chosen.items():
        found = printed
        for word in name.replace("model.init_args.encoder", "model.init_args/encoder").split("."):
            for key in word.split("/"):
                found = found[key]
        assert found == value, name
    callbacks = printed["trainer"]["callbacks"]
    assert callbacks[-1]["class_path"] == "rnafm.callbacks.RunPage"
    assert callbacks[-1]["init_args"]["checkpoints"] == "none"
    assert printed["trainer"]["logger"]["class_path"] == "rnafm.callbacks.OfflineFirstWandbLogger"
    kinds = [each["class_path"] for each in callbacks]
    keeper = callbacks[kinds.index("lightning.pytorch.callbacks.ModelCheckpoint")]["init_args"]
    # What the sweep compares is the best value so far of what checkpoints are chosen by.
    assert sweep["metric"]["name"] == "best/" + keeper["monitor"].partition("/")[2]
    assert sweep["metric"]["goal"] == {"min": "minimize", "max": "maximize"}[keeper["mode"]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # wandb leaves a file open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", SWEEPS, ids=IDS)
def test_a_run_of_a_sweep_trains(path, started, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    words, env, chosen = started(sweep)
    for name, value in env.items():
        if name.startswith("WANDB"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    more = [f"--data.store={tmp_path / 'store'}"] if path.stem == "pretrain" else []
    wandb.teardown()  # it reads the environment once, in each process that the agent starts
    main(
        [
            *words[2:],
            *more,
            f"--trainer.logger.init_args.save_dir={tmp_path}",
            "--trainer.accelerator=cpu",
            "--trainer.max_steps=2",
            "--trainer.max_epochs=-1",
            "--trainer.val_check_interval=1",
            "--trainer.limit_val_batches=8",
            "--trainer.log_every_n_steps=1",
        ]
    )
    wandb.finish()
    wandb.teardown()
    page = Page(tmp_path)
    assert page.run.run_id == "run1" and page.run.sweep_id == "sweep1"
    assert {name: page.config[name] for name in chosen} == chosen
    assert page.column(sweep["metric"]["name"])
    assert not page.artifact("model")


def test_every_sweep_says_how_to_start_it():
    assert {"pretrain", "sequence"} <= set(IDS)
    for path in SWEEPS:
        lines = path.read_text().splitlines()
        assert lines[0].startswith("# Sweep: ")
        assert f"# wandb sweep configs/sweeps/{path.name}" in lines
