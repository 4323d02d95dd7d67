"""The errata: every sentence on the list has its heading, what is true, and a proof."""

import re
from pathlib import Path

import pytest

from attnbook.book.citations import PATTERN
from attnbook.book.fences import Block, parse
from attnbook.book.outline import sections

PAGE = Path(__file__).parents[1] / "docs" / "errata.md"
# What the page owes: each sentence that is often written, by a short name, and its anchor.
ITEMS = {
    "born in 2015": "attention-was-born-in-2015-with-attention-is-all-you-need",
    "began with translation": "attention-began-with-machine-translation",
    "networks of 2006": "2006-convolutional-networks-and-regression-networks-rnn",
    "references that do not exist": "it-is-in-a-list-of-references-so-it-exists",
    "additive attention": "additive-attention-is-softmaxqktd-v-q",
    "two scores of Luong": "luong-proposed-two-scores-dot-and-concat",
    "Bahdanau's query": "bahdanaus-query-is-the-decoders-current-state",
    "cross-attention": "cross-attention-has-another-formula",
    "values in the weights": "weights-come-from-the-similarity-of-query-key-and-value",
    "ignores the irrelevant": "attention-ignores-what-is-irrelevant",
    "Euclidean distance": "use-the-euclidean-distance-as-the-similarity",
    "cosine without temperature": "cosine-is-normalised-already-so-it-needs-no-scale",
    "swapped positions": "swapping-positions-leaves-the-weights-unchanged",
    "continuous, differentiable": "it-is-continuous-therefore-differentiable",
    "three parts": "the-input-is-split-into-three-parts-q-k-v",
    "faster heads": "multi-head-attention-computes-faster-than-one-head",
    "several queries": "multi-head-attention-is-several-queries-on-the-same-memory",
    "independent subspaces": "each-head-works-in-its-own-subspace-so-every-step-is-independent",
    "longer dependencies": "several-heads-capture-longer-dependencies",
    "without positions": "a-transformer-cannot-work-without-position-encodings",
    "rotary decay": "rotary-scores-fall-with-the-distance",
    "less computation": "attention-reduces-the-amount-of-computation",
    "FlashAttention": "flashattention-is-an-approximation",
    "fully connected, efficient": "it-is-fully-connected-therefore-more-efficient",
    "many parameters": "attention-has-many-parameters",
    "Hopfield network": "a-hopfield-network-is-a-fully-connected-network",
    "2^(d/2) patterns": "a-modern-hopfield-network-stores-2d2-patterns",
    "Transformer as RNN": "a-transformer-implements-an-rnn-sequence-to-sequence-model",
    "coverage": "coverage-makes-sure-that-everything-is-said",
    "GPT": "gpt-is-the-decoder-of-the-transformer",
    "BERT": "bert-replaces-15-per-cent-of-the-words-by-a-mask",
    "code: scale": "q-sqrtd-then-embed_dim",
    "code: decoder": "a-decoder-without-self-attention",
    "code: encoder unseen": "attention-that-never-sees-the-encoder",
    "code: mask": "a-mask-that-is-accepted-and-never-passed-on",
    "code: heads and batch": "heads-that-are-split-along-the-batch",
    "code: merge": "heads-that-are-merged-without-a-transpose",
    "code: super().__init()": "super__init",
    "code: positions": "no-position-information",
    "code: residual": "no-residual",
    "code: feed-forward": "a-feed-forward-network-without-expansion",
    "code: width": "a-width-asserted-on-the-sequence-axis",
    "code: rotary layout": "rotary-weights-of-the-other-layout",
    "code: top left": "a-causal-mask-at-the-top-left-over-a-cache",
}
HISTORICAL = {"born in 2015", "began with translation", "networks of 2006", "two scores of Luong"}
_ITEM = re.compile(r"(?m)^### (.+)\n")
_ROW = re.compile(r"(?m)^\| \[(?P<title>.+)\]\(#(?P<anchor>\S+)\) \| (?P<true>.+) \|$")


def items(text: str) -> dict[str, str]:
    """What stands under each heading of the third depth, by its anchor."""
    anchors = [s.anchor for s in sections(text, "errata.md") if len(s.path) == 3]
    parts = _ITEM.split(re.sub(r"(?ms)^## .*?(?=^#|\Z)", "", text))[2::2]
    return dict(zip(anchors, parts, strict=True))


def shows(block: Block) -> bool:
    """Whether a block holds something that can fail: an output, or an assertion."""
    if block.no_run or block.table or block.fig:
        return False
    lines = block.source.splitlines()
    printed = any(not line.startswith((">>>", "...")) and line for line in lines)
    return printed if block.language == "pycon" else "assert " in block.source


def proofs(item: str) -> set[str]:
    """What an item is proved by."""
    found = {"code": any(map(shows, parse(item))), "citation": PATTERN.search(item)}
    return {kind for kind, there in found.items() if there}


TEXT = PAGE.read_text(encoding="utf-8")
FOUND = items(TEXT)


def test_the_page_has_the_items_of_the_list_and_no_others() -> None:
    assert list(FOUND) == list(ITEMS.values())


@pytest.mark.parametrize("name", ITEMS)
def test_each_item_says_what_is_true_and_proves_it(name: str) -> None:
    item = FOUND[ITEMS[name]]
    assert item.lstrip().startswith("**"), "what is true comes first, in bold"
    assert ("citation" if name in HISTORICAL else "code") in proofs(item)


def test_the_table_has_each_item_once_and_in_order() -> None:
    rows = list(_ROW.finditer(TEXT))
    assert [row["anchor"] for row in rows] == list(FOUND)
    assert [row["title"] for row in rows] == _ITEM.findall(TEXT)
    assert all(row["true"].endswith(".") for row in rows)


def test_the_section_that_other_pages_link_to() -> None:
    assert "dates-and-names" in {s.anchor for s in sections(TEXT, "errata.md")}


@pytest.mark.parametrize(
    ("item", "kinds"),
    [
        ("**No.** Because it is so. See [there](chapters/03-scores.md#dot).", set()),
        ("**No.** It is of 2017 [@vaswani2017attention].", {"citation"}),
        ("```pycon\n>>> 1 + 1\n2\n```", {"code"}),
        ("```pycon\n>>> x = 1\n```", set()),
        ("```python\nx = 1\n```", set()),
        ("```python\nassert 1 + 1 == 2\n```", {"code"}),
        ("```{.python hide table='t' caption='T?'}\n[{'a': 'assert '}]\n```", set()),
        ("```{.python .no-run reason='needs a GPU'}\nassert True\n```", set()),
    ],
)
def test_what_is_a_proof_and_what_is_not(item: str, kinds: set[str]) -> None:
    text = f'# E\n\n## Part\n\n### "So"\n\n{item}\n\n## References\n\n\\bibliography\n'
    assert proofs(items(text)["so"]) == kinds
