"""The counts that say how dense a chapter is."""

import nbformat
import pytest

from aevb.book import density

CHAPTER = """\
# A title of five words

Take $z = \\mu + \\sigma\\epsilon$, says {cite:t}`kingma2014`, and `reparameterize` it - so:

(eq-1)=
$$z = a + b
  + c$$

```{exercise}
:label: ex-one
Two words.
```

```{code-cell} ipython3
# a comment
x = 1

y = x  # not counted apart
```

```{code-cell} ipython3
z = y
```
"""


@pytest.mark.parametrize(
    ("markdown", "count"),
    [
        ("# A title of five words", 5),
        ("Take $z = \\mu$, says {cite:t}`kingma2014` - so `f(x, y)`.", 6),
        ("(eq-1)=\n$$a + b\n= c$$\n\nand", 1),
        ("```{exercise}\n:label: ex-one\nTwo words.\n```", 2),
        ("costs $1$ and $2$", 4),
    ],
)
def test_words_are_prose(markdown, count):
    assert density.words(markdown) == count


def test_lines_are_neither_blank_nor_comments():
    assert density.lines("# a comment\nx = 1\n\ny = x  # counted\n") == 2


def test_what_a_cell_prints_is_counted_without_markup():
    outputs = [
        nbformat.v4.new_output("stream", text="three printed words"),
        nbformat.v4.new_output("display_data", data={"text/html": "<b>two</b> more<script>not this</script>"}),
        nbformat.v4.new_output("display_data", data={"image/png": "aGVsbG8=", "text/plain": "<Figure>"}),
    ]
    assert density.printed(nbformat.v4.new_code_cell("x", outputs=outputs)).split() == [
        "two",
        "more",
        "three",
        "printed",
        "words",
    ]


def test_a_chapter_is_counted(tmp_path):
    path = tmp_path / "00_chapter.md"
    kernel = "kernelspec:\n  display_name: Python\n  name: python3\n"
    head = f"---\njupytext:\n  text_representation:\n    extension: .md\n    format_name: myst\n{kernel}---\n\n"
    path.write_text(head + CHAPTER, encoding="utf-8")
    found = density.of_chapter(path)
    assert found == ("00_chapter", 15, 3, 2, 36)
    assert found.words_per_line == 5
