"""``etad-bench memory --step`` predicts a step of somebody's own file, and names the line of what it cannot."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from tests.paths import ROOT

EXAMPLES = ROOT / "examples" / "steps"
LINEAR = """
import torch
def make_step(batch=4, width=64):
    model = torch.nn.Linear(width, width).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = torch.randn(batch, width, device="cuda")
    def step():
        optimizer.zero_grad()
        model(given).sum().backward()
        optimizer.step()
    return step
number = 3
"""


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(LINEAR)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["memory", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("name", ["image_classifier", "decoder", "tagger", "two_networks"])
def test_every_example_prints_what_holds_the_memory(name: str) -> None:
    result = run("--step", f"{EXAMPLES / name}.py:make_step", "--batch", "2", "--hardware", "t4_16g")
    assert result.exit_code == 0, result.output
    for said in (f"{name}.py:make_step(batch=2), training step: predicted", "backward", "by module", "rounding"):
        assert said in result.stdout
    assert "fits         t4_16g" in result.stdout
    assert f"{name}.py:" in result.stdout.partition("largest tensors")[2]


def test_several_batches_are_a_table(linear: Path) -> None:
    result = run("--step", f"{linear}:make_step", "--batch", "1,8", "--arg", "width=128", "--hardware", "t4_16g")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0].isdecimal()] == ["1", "8"]
    assert sum("yes" in line for line in lines) == 2


def test_a_program_gets_json(linear: Path) -> None:
    result = run("--step", f"{linear}:make_step", "--format", "json", "--torch-release", "2.12")
    assert result.exit_code == 0, result.output
    [found] = json.loads(result.stdout)
    assert found["batch"] == 4
    assert found["kind"] == "predicted"
    assert found["parameter_bytes"] == 4 * (64 * 64 + 64)
    low, high = found["allocated_peak_bytes"]
    assert found["parameter_bytes"] < low <= high


def test_the_largest_batch_that_fits_is_found(linear: Path) -> None:
    where = ("--step", f"{linear}:make_step", "--arg", f"width={1 << 12}", "--hardware", "rtx_3060_laptop_6g")
    result = run(*where, "--max-batch", "--format", "json")
    assert result.exit_code == 0, result.output
    [found] = json.loads(result.stdout)
    [more] = json.loads(run(*where, "--batch", found["batch"] + 1, "--format", "json").stdout)
    assert (found["fits"], more["fits"] == "yes") == ("yes", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.py:make_step", "there is no file nowhere.py"),
        ("mine", "write it as FILE.py:FUNCTION"),
        ("{linear}:other", "there is no function other in"),
        ("{linear}:number", "it has: make_step"),
    ],
)
def test_no_such_file_or_function(text: str, said: str, linear: Path) -> None:
    refused(said, "--step", text.format(linear=linear))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--arg", "depth=1"), "has no argument depth"),
        (("--arg", "width"), "--arg width: write it as NAME=VALUE"),
        (("--batch", "1,x"), "--batch 1,x"),
        (("--ratio", "0.3"), "--ratio: belongs to an experiment"),
        (("--config", "quickstart"), "--config: belongs to an experiment"),
        (("--set", "train.batch=1"), "--set: belongs to an experiment"),
        (("--device", "cpu"), "--device cpu: belongs to an experiment"),
        (("--format", "csv"), "--format csv"),
        (("--max-batch",), "--max-batch: needs --hardware"),
        (("--torch-release", "0.3"), "torch release 0.3"),
        (("--hardware", "no_such_gpu"), "no_such_gpu"),
    ],
)
def test_what_does_not_go_with_a_step(arguments: tuple[str, ...], said: str, linear: Path) -> None:
    refused(said, "--step", f"{linear}:make_step", *arguments)


@pytest.mark.parametrize("option", [("--arg", "a=1"), ("--torch-release", "2.15"), ("--max-batch",)])
def test_what_goes_with_a_step_only(option: tuple[str, ...]) -> None:
    refused("goes with --step", *option)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    def step(): model(given).sum().item()", "mine.py:7: the step reads a value"),
        ("    step = None", "has to return the callable that runs a step, not nothing"),
        ("    step = torch.compile(model)", "mine.py:7: torch.compile cannot be predicted"),
        ("    def step(): model(given[:, 1:])", "mine.py:7: RuntimeError"),
        ("    import no_such_package", "mine.py:7: No module named 'no_such_package'"),
    ],
)
def test_the_line_at_fault_is_named(line: str, said: str, linear: Path) -> None:
    head = LINEAR.partition("    def step():")[0]
    linear.write_text(f"{head}{line}\n    return step\n")
    refused(said, "--step", f"{linear}:make_step")


@pytest.mark.parametrize(("text", "said"), [("import no_such_package\n", "mine.py:1:"), ("def f(:\n", "mine.py:1:")])
def test_a_file_that_cannot_be_imported_is_named(text: str, said: str, linear: Path) -> None:
    linear.write_text(text)
    refused(said, "--step", f"{linear}:make_step")


def refused(said: str, *arguments: object) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout
