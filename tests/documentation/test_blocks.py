"""What is read out of a page: its blocks, and the commands in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documentation import blocks
from tests.documentation.blocks import Block, Command, blocks_of, commands_of

PAGE = """\
# A page

Write this as `first.py`:

```python
print("hello")
```

1. Then run it:

   ```
   $ python first.py
   hello
   $ cat <<END |
   one
   END
     tr a-z A-Z
   ONE

   $ true
   ```

```bash
# as a script
echo "over
two lines"
curl -s \\
  localhost
```
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    return blocks_of(page)


def test_a_page_has_its_blocks_with_place_language_and_text(found: list[Block]) -> None:
    assert [(str(block), block.language) for block in found] == [
        ("page.md:6", "python"),
        ("page.md:12", ""),
        ("page.md:24", "bash"),
    ]
    assert found[0].text == 'print("hello")\n'
    assert found[1].text.startswith("$ python first.py\nhello\n"), "without the indentation of the list"


def test_a_file_is_named_by_the_sentence_before_it(found: list[Block]) -> None:
    assert [block.file_name for block in found] == ["first.py", None, None]


def test_the_commands_of_a_session_have_their_lines_and_their_output(found: list[Block]) -> None:
    assert list(commands_of(found[1])) == [
        Command(12, "python first.py", "hello"),
        Command(14, "cat <<END |\none\nEND\n  tr a-z A-Z", "ONE"),
        Command(20, "true", ""),
    ]


def test_the_commands_of_a_script_have_no_output(found: list[Block]) -> None:
    assert [command.text for command in commands_of(found[2])] == [
        "# as a script",
        'echo "over\ntwo lines"',
        "curl -s \\\n  localhost",
    ]


def test_a_command_without_an_end_is_a_mistake_of_the_page() -> None:
    with pytest.raises(AssertionError, match="does not end"):
        list(commands_of(Block("page.md", 1, "bash", "echo 'one\n", "")))
