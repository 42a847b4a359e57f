"""Every example that the documentation shows runs."""

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import ninokit
import ninokit_cnn
import ninokit_mlp
import ninokit_timm
import ninokit_transformers
from ninokit.testing.plugins.architectures import architecture_checks

ROOT = Path(__file__).parent.parent


def modules() -> list[str]:
    packages = [ninokit, ninokit_mlp, ninokit_cnn, ninokit_timm, ninokit_transformers]
    found = [info.name for p in packages for info in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    return [package.__name__ for package in packages] + found


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name, request):
    if name == "ninokit.graph.dgl_view":
        request.getfixturevalue("dgl_installed")
    if name.startswith("ninokit.pretraining"):
        pytest.importorskip("zarr")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_docstring_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [e for name in modules() for t in finder.find(importlib.import_module(name)) for e in t.examples]
    assert len(examples) > 20


def test_the_readmes_first_example(code_blocks):
    scope: dict[str, object] = {}
    exec(code_blocks("README.md")[0], scope)
    assert isinstance(scope["nowcasting"], ninokit.Nowcasting)


def test_the_examples_of_timm(code_blocks):
    pytest.importorskip("timm")
    scope: dict[str, object] = {}
    for code in code_blocks("docs/timm.md"):
        exec(code, scope)
    assert isinstance(scope["nowcasting"], ninokit.Nowcasting)
    assert type(scope["optimizer"]).__name__ == "Lookahead"


@pytest.mark.usefixtures("dgl_installed")
def test_the_plugin_guides_architecture(code_blocks, monkeypatch):
    scope: dict[str, object] = {}
    exec(code_blocks("docs/plugins.md")[1], scope)
    registry = ninokit.plugins.Registry(strict=True)
    registry.register(type("Plugin", (), {"ninokit_architectures": staticmethod(scope["ninokit_architectures"])}), "s")
    monkeypatch.setattr("ninokit.plugins.registry", lambda: registry)

    network: dict[str, object] = {}
    exec(code_blocks("docs/plugins.md")[0], network)
    graph = ninokit.encode(network["Shifted"]())
    monkeypatch.setitem(sys.modules, "my_network", SimpleNamespace(Shifted=network["Shifted"]))
    monkeypatch.setitem(sys.modules, "my_plugin", SimpleNamespace(encode=scope["encode"]))
    exec(code_blocks("docs/plugins.md")[3], scope)
    scope["test_graph_is_right"]()
    assert graph.num_edges == 16 * 32 + 32 + 32 * 10 + 10
    assert [group.name for group in graph.neurons if group.size > 1] == ["plain", "shifted", "hidden", "outputs"]
    seen = [check.run() for check in architecture_checks(registry.architectures()["shifted"])]
    assert seen[:1] == ["Shifted"]
    assert len(seen) >= 3


def test_the_plugin_guides_slice_of_interleaved_heads(code_blocks):
    scope: dict[str, object] = {}
    exec(code_blocks("docs/plugins.md")[2], scope)
    weight = torch.arange(4 * 48 * 64).view(4 * 48, 64)
    assert torch.equal(scope["view"](weight)[..., 0], weight.view(4, 48, 64)[:, 16:32])


@pytest.mark.parametrize(
    "path", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
)
def test_relative_links_lead_somewhere(path):
    text = (ROOT / path).read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text) + re.findall(r'src="(?!https?:)([^"]+)"', text)
    missing = [link for link in links if not ((ROOT / path).parent / link).exists()]
    assert missing == []
