"""Files that torch wrote, or that only look like it."""

from pathlib import Path

import pytest

from etad.errors import DataError
from etad.torch_files import read_torch_file


@pytest.mark.parametrize("text", ["hello world\n" * 9, "epoch 1\nloss 2\n", "1\n2\n", "\n"])
def test_a_text_instead_of_weights_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_torch_file(path, "checkpoint")
    message = str(caught.value)
    assert message.startswith(f"{path}: not a readable checkpoint, perhaps ")
    assert not any(letter.isdigit() for letter in message.removeprefix(str(path)))
