"""The questions: each answer rests on a block, a claim, a section of the course or a citation."""

import re
from pathlib import Path

import pytest

from attnbook.book.citations import PATTERN
from attnbook.book.fences import parse

PAGE = Path(__file__).parents[1] / "docs" / "faq.md"
_QUESTION = re.compile(r"^### (.+)\n", re.M)
_SECTION = re.compile(r"\]\((?:(?:chapters|labs)/[^)#\s]+\.(?:md|ipynb))#[^)\s]+\)")


def answers(text: str) -> dict[str, str]:
    """Each question's answer."""
    text = re.sub(r"(?ms)^## .*?(?=^#|\Z)", "", text)
    parts = _QUESTION.split(text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rests_on(answer: str) -> set[str]:
    """What an answer rests on."""
    found = {
        "a block": any(not block.no_run for block in parse(answer)),
        "a claim": re.search(r"\{claim [^}]+\}", answer),
        "a section": _SECTION.search(answer),
        "a citation": PATTERN.search(answer),
    }
    return {kind for kind, there in found.items() if there}


def test_every_answer_rests_on_something() -> None:
    found = answers(PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 18
    assert [question for question in found if not question.endswith("?")] == []
    assert [question for question, answer in found.items() if not rests_on(answer)] == []


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("Because it is so.", set()),
        ("See [elsewhere](https://example.org/#a) and [the start](index.md).", set()),
        ("```{.python .no-run reason='needs a GPU'}\nx = 1\n```", set()),
        ("```pycon\n>>> 1 + 1\n2\n```", {"a block"}),
        ("It is {claim scores/std}.", {"a claim"}),
        ("See [there](chapters/03-scores.md#the-idea).", {"a section"}),
        ("As they say [@vaswani2017attention].", {"a citation"}),
    ],
)
def test_what_is_evidence_and_what_is_not(answer: str, kinds: set[str]) -> None:
    text = f"# Q\n\n## Part\n\n### Why?\n\n{answer}\n\n## References\n\n\\bibliography\n"
    assert rests_on(answers(text)["Why?"]) == kinds
