"""Somebody's file that has the function of a step, as FILE.py:FUNCTION, and arguments as text."""

import ast
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.predict.placing import StepError
from bench.predict.source_lines import line_in
from bench.predict.step import MakeStep
from etad.errors import ConfigError


def load_make_step(text: str) -> MakeStep:
    """Import a file, whose folder is searched for its imports first, and return its function.

    Args:
        text: FILE.py:FUNCTION.

    Raises:
        ConfigError: there is no such file or function, or the file cannot be imported.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not name:
        raise ConfigError(f"--step {text}: write it as FILE.py:FUNCTION")
    if not path.is_file():
        raise ConfigError(f"--step {text}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"step_of_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise StepError(f"{file}:{error.lineno}: {error.msg}") from error
    # A script may end itself; both are the file's own mistake, said in one line.
    except (Exception, SystemExit) as error:
        lines = str(error).splitlines()
        place = line_in(error.__traceback__) or file
        raise StepError(f"{place}: {type(error).__name__}: {lines[0] if lines else 'without a message'}") from error
    found = getattr(module, name, None)
    if not callable(found):
        own = [
            each
            for each, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == spec.name and not isinstance(value, type)
        ]
        raise ConfigError(f"--step {text}: there is no function {name} in {file}; it has: {', '.join(own) or 'none'}")
    make_step: MakeStep = found
    return make_step


def parsed_arguments(texts: Iterable[str]) -> dict[str, Any]:
    """Return ``--arg`` assignments by name. A value that is no Python literal is a text.

    Raises:
        ConfigError: one has no name or value.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--arg {text}: write it as NAME=VALUE")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments
