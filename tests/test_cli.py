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
    assert any(re.match(r"fm16 +target 0\.895  FashionMNIST, 3-layer CNN \(published FM-16\)", line) for line in lines)
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


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_own_cache")
def test_compare_with_a_file_and_settings(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    out, file = tmp_path / "out", tmp_path / "settings.yaml"
    file.write_text("task: digits_mlp\nseeds: [1]\ntotal_steps: 5000\narms: [muon]\n")
    settings = [f"out={out}", "total_steps=20", "period=10"]
    assert main(["compare", "--config", str(file), "linefit", "muon+linefit", *settings]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# What each arm saves\n")
    assert "\n## digits_mlp: 20 steps\n" in printed
    rows = re.findall(r"^\| +(\S+) \| 0\.008 \|", printed, flags=re.MULTILINE)
    assert rows == ["adamw", "linefit", "muon+linefit"]  # the command line's, not the file's
    assert printed.endswith(f"Written to {out}: evaluation.json, evaluation.md, savings.png, digits_mlp.png\n")
    assert printed.startswith((out / "evaluation.md").read_text())
    files = ["digits_mlp.png", "evaluation.json", "evaluation.md", "savings.png"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert (tmp_path / "cache" / "runs" / "digits_mlp-20").is_dir()


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


@pytest.mark.usefixtures("_own_cache")
def test_evaluate(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    out, file = tmp_path / "out", tmp_path / "settings.yaml"
    file.write_text("tasks: [digits_batchnorm_cnn]\nseeds: [1]\nlr_factors: [1]\n")
    settings = [f"out={out}", "tasks=[digits_mlp]", f"store={tmp_path / 'runs'}"]
    assert main(["evaluate", "--config", str(file), "adamw", *settings]) == 0
    printed = capsys.readouterr().out
    assert "All settings were chosen on the validation split and on other seeds" in printed
    assert "\n## digits_mlp: " in printed
    assert printed.endswith(f"Written to {out}: evaluation.json, evaluation.md, savings.png, a picture a task\n")
    assert printed.startswith((out / "evaluation.md").read_text())
    assert not (tmp_path / "cache").exists()


def test_evaluate_refuses(capsys, tmp_path):
    assert main(["evaluate", "muno", f"out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err.startswith("ninokit: no arm is called 'muno'. Did you mean 'muon'?")
    assert main(["evaluate", "seeds=[100]", f"out={tmp_path / 'out'}"]) == 2
    assert capsys.readouterr().err.startswith("ninokit: tuning_seeds: must be none of seeds")
    assert list(tmp_path.iterdir()) == []


def test_gain(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    monkeypatch.setenv("NINOKIT_CACHE", str(tmp_path / "cache"))
    out, file = tmp_path / "out", tmp_path / "settings.yaml"
    file.write_text("times: [100]\nrates: [1]\nhorizons: [2, 5]\nearlier: null\n")
    assert main(["gain", "--config", str(file), "digits_mlp", "linefit", f"out={out}", "recovery=50"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# digits_mlp: steps gained by a jump\n")
    assert re.search(r"\n\| +nowcaster \| +from \| +horizon 2 \| +horizon 5 \|\n", printed)
    assert printed.endswith(f"Written to {out}: gain.json, gain.md, gain.png\n")
    assert sorted(path.name for path in out.iterdir()) == ["gain.json", "gain.md", "gain.png"]
    assert printed.startswith((out / "gain.md").read_text())


def test_gain_refuses(capsys, tmp_path):
    assert main(["gain", "digits_mlp", f"out={tmp_path}/out"]) == 2
    assert capsys.readouterr().err == ("ninokit: gain: expected nowcasters after the task, such as linefit; got none\n")
    assert main(["gain", "digits_mpl", "linefit", f"out={tmp_path}/out"]) == 2
    assert capsys.readouterr().err.startswith("ninokit: no task is called 'digits_mpl'. Did you mean 'digits_mlp'?")
    assert not (tmp_path / "out").exists()
