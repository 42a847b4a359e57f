"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from importlib import metadata

import pytest

import ninokit
from ninokit.cli import main

pytestmark = pytest.mark.usefixtures("_logging_as_before")


def test_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"ninokit {metadata.version('ninokit')}\n"


def test_a_task_is_encoded_with_its_example_inputs(capsys):
    assert main(["encode", "task:digits_resnet"]) == 0
    assert "9,374 parameters" in capsys.readouterr().out.splitlines()[0]


def test_tasks_that_are_kept_for_judging_are_marked(capsys):
    assert main(["tasks"]) == 0
    marked = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith(" (held out)")}
    assert {"fm32", "c10_16", "mnist_mlp", "mnist_vit", "wikitext2_gpt2"} <= marked
    assert not marked & {"fm16", "mnist1d_mlp", "shakespeare_gpt2"}


def test_tasks_are_listed_with_target_and_description(capsys):
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "fm16                      target 0.895  FashionMNIST, 3-layer CNN (published FM-16)" in "\n".join(lines)
    assert {line.split()[0] for line in lines} >= {"mnist1d_mlp", "mnist1d_cnn", "digits_mlp", "fm16", "c10_16"}


def test_encode_a_task(capsys):
    assert main(["encode", "task:digits_mlp"]) == 0
    assert capsys.readouterr().out.startswith("neural graph: 108 neurons in 5 groups")


def test_encode_and_plot(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "graph.svg"
    assert main(["encode", "task:digits_mlp", "--plot", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"\n\nDrawn in {path}\n")
    assert path.read_bytes().startswith(b"<?xml")


def test_encode_refuses_a_picture_of_another_format(capsys):
    assert main(["encode", "task:digits_mlp", "--plot", "graph.gif"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("ninokit: plot: expected a file name that ends in .png, .svg or .pdf; got 'graph.gif'\n")


def test_encode_a_network_of_timm(capsys):
    timm = pytest.importorskip("timm")
    size = sum(parameter.numel() for parameter in timm.create_model("test_vit").parameters())
    assert main(["encode", "timm:test_vit"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("neural graph: ")
    assert printed.splitlines()[0].endswith(f" {size:,} parameters")


def test_encode_makes_networks_of_timm_without_numbers(capsys, monkeypatch):
    pytest.importorskip("timm")
    devices = []
    encode = ninokit.encode

    def encode_and_look(model, example_inputs):
        devices.extend({parameter.device.type for parameter in model.parameters()})
        return encode(model, example_inputs)

    monkeypatch.setattr(ninokit, "encode", encode_and_look)
    assert main(["encode", "timm:test_resnet"]) == 0
    assert devices == ["meta"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet81", r"Unknown model \(resnet81\)\. Did you mean 'resnet18'\?"),
        ("test_resnet.nobodys", r"Invalid pretrained tag \(nobodys\) for test_resnet\. Did you mean 'test_resnet'\?"),
        ("", r"Unknown model \(\)\."),
        ("some/where", r"Model name 'some/where' .+"),
    ],
)
def test_encode_refuses_networks_that_timm_does_not_have(capsys, name, reason):
    pytest.importorskip("timm")
    assert main(["encode", f"timm:{name}"]) == 2
    expected = rf"ninokit: encode: timm makes no network called {name!r}: {reason}\n"
    assert re.fullmatch(expected, capsys.readouterr().err)


def test_encode_says_that_timm_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main(["encode", "timm:resnet18"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ninokit: encode timm:resnet18 needs the package 'timm', which does not import here (")
    assert message.endswith('Install it with: pip install "ninokit[timm]"\n')


@pytest.fixture
def _factories(tmp_path, monkeypatch):
    (tmp_path / "cli_test_factories.py").write_text(
        "from torch import nn\n"
        "def network():\n    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
        "def number():\n    return 7\n"
        "constant = 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("cli_test_factories", None)


@pytest.mark.usefixtures("_factories")
def test_encode_a_factory_in_the_current_folder(capsys):
    assert main(["encode", "cli_test_factories:network"]) == 0
    assert "26 parameters" in capsys.readouterr().out


@pytest.mark.usefixtures("_factories")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("network", "encode: expected task:NAME, timm:NAME or package.module:callable; got 'network'"),
        (":network", "encode: expected task:NAME, timm:NAME or package.module:callable; got ':network'"),
        ("cli_test_absent:network", "encode: cli_test_absent:network can't be imported: No module named"),
        ("cli_test_factories:absent", "encode: cli_test_factories:absent can't be imported: module"),
        ("cli_test_factories:constant", "encode: cli_test_factories:constant must be callable; got a int"),
        (
            "cli_test_factories:number",
            "encode: cli_test_factories:number must return a torch.nn.Module; got a int",
        ),
        ("task:absent", "no task is called 'absent'. Known tasks: "),
    ],
)
def test_encode_refuses(capsys, source, message):
    assert main(["encode", source]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"ninokit: {message}")
    assert "Traceback" not in captured.err


def test_compare_with_a_file_and_settings(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    out, file = tmp_path / "out", tmp_path / "settings.yaml"
    file.write_text("task: digits_mlp\nseeds: [1]\ntotal_steps: 5000\n")
    settings = [f"out={out}", "total_steps=20", "eval_every=10", "period=10", "target=0.05"]
    assert main(["compare", "--config", str(file), *settings]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# digits_mlp: AdamW with and without nowcasting by linefit\n")
    assert "|    1 |             10 |               10 |   0 % |" in printed
    assert printed.endswith(f"Written to {out}: results.json, summary.md, curves.png\n")
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "results.json", "summary.md"]


def test_a_file_in_the_way(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    (tmp_path / "out").write_text("mine")
    assert main(["compare", "task=digits_mlp", f"out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"ninokit: [Errno 17] File exists: '{tmp_path / 'out'}'"


def test_compare_refuses_before_it_makes_a_folder(capsys, tmp_path):
    assert main(["compare", f"out={tmp_path / 'out'}", "perido=3"]) == 2
    assert capsys.readouterr().err.startswith(
        "ninokit: the command line: unknown setting 'perido'. Did you mean 'period'?"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_installed_program_reports_without_a_traceback():
    command = [sys.executable, "-c", "import sys; from ninokit.cli import main; sys.exit(main())", "compare", "task=x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("ninokit: no task is called 'x'.")
    assert "Traceback" not in done.stderr


def test_a_command_is_required(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "level"), [([], logging.WARNING), (["-v"], logging.INFO)])
def test_verbosity(flags, level):
    logging.getLogger().handlers.clear()
    main([*flags, "tasks"])
    assert logging.getLogger().level == level


def test_evaluate(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    out, file = tmp_path / "out", tmp_path / "settings.yaml"
    file.write_text("tasks: [digits_mlp]\nagainst: []\nseeds: [1]\nlr_factors: []\n")
    assert main(["evaluate", "--config", str(file), "linefit", f"out={out}", "max_steps=10"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# linefit: steps and seconds to the target\n")
    assert re.search(r"\| +AdamW \| +0\.008 \| +>10 \| +>10 \|", printed)
    assert printed.endswith(
        f"Written to {out}: evaluation.json, evaluation.md, savings.png, a picture a task, all runs\n"
    )


def test_evaluate_wants_a_nowcaster(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["evaluate"])
    assert "NOWCASTER" in capsys.readouterr().err
