"""What each finished chapter owes its reader, and where on its page it stands.

A chapter in the navigation has an entry in OWED, and no chapter joins the book without one:

    topics    a phrase of a section's prose: the heading of that section
    figures   what must be shown: the anchor of the figure
    tables    what must be listed: the anchor of the table
    labs      what must be measured: its lab, and the claims that the chapter prints of it
    theorems  what must be proved by a test: the claims that the chapter links in the ledger
"""

import re
from dataclasses import dataclass, field
from functools import cache

import pytest
from anchors import DOCS, ROOT, pieces

from attnbook.book.claims import Ledger, load
from attnbook.book.directives import CLAIM
from attnbook.book.fences import fences
from attnbook.book.outline import sections


@dataclass(frozen=True)
class Owed:
    """What one chapter owes; the module's docstring says what each field holds."""

    topics: dict[str, str]
    figures: dict[str, str]
    tables: dict[str, str]
    labs: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    theorems: dict[str, str] = field(default_factory=dict)


OWED = {
    "01-why-attention": Owed(
        topics={
            "information overload": "the-idea",
            "top-down": "the-idea",
            "At a party": "the-idea",
            "flexible allocation of limited computing resources": "the-idea",
            "top-down and bottom-up": "why-attention",
            "place in it": "the-smallest-block",
            "External memory": "more-than-one-vector-can-hold",
            "neither adds a parameter": "more-than-one-vector-can-hold",
            "max pooling": "bottom-up-and-top-down",
            "gating": "bottom-up-and-top-down",
            "locality": "who-is-mixed-with-whom",
            "weight sharing": "who-is-mixed-with-whom",
            "recurrence": "who-is-mixed-with-whom",
            "graph attention": "who-is-mixed-with-whom",
            "local and fixed": "who-is-mixed-with-whom",
            "look-up made on demand": "who-is-mixed-with-whom",
            "theorem": "what-a-wide-network-promises",
            "three things it does not promise": "what-a-wide-network-promises",
            "Locality, sharing, pooling, recurrence, attention and memory": (
                "what-a-wide-network-promises"
            ),
        },
        figures={
            "the basic schema of attention": "fig-schema",
            "one picture under saliency and under two task queries": "fig-saliency",
            "error against width for a universal approximator": "fig-approximation",
            "a timeline of milestones": "fig-timeline",
        },
        tables={
            "basic properties of attention": "tbl-properties",
            "milestones": "tbl-milestones",
            "attention against convolution and recurrence": "tbl-layers",
        },
        labs={
            "a dense against a convolutional network on few images": (
                "why-attention",
                [
                    *(f"{net}-{size}" for net in ("conv", "dense", "wide") for size in (100, 3000)),
                    "tenfold",
                    "lead-anywhere",
                    "scrambled-3000",
                ],
            )
        },
    ),
    "02-one-equation": Owed(
        topics={
            "attention distribution": "the-equation",
            "expectation of the values": "the-weights-are-a-distribution-the-output-an-expectation",
            "hard look-up": "temperature-from-one-book-to-all-books",
            "mean pooling": "temperature-from-one-book-to-all-books",
            "kernel": "nadaraya-watson-regression",
            "the input appears twice": "keys-and-values",
            "key-value attention": "keys-and-values",
            "four readers": "several-queries",
            "a mask is a boolean tensor": "masks",
            "padded": "variable-length",
            "permuted": "the-order-of-the-keys-does-not-matter",
            "hop": "what-happens-to-the-context-next",
            "fed to the next state": "what-happens-to-the-context-next",
            "concatenated": "what-happens-to-the-context-next",
            "aggregate": "the-steps-one-by-one",
        },
        figures={
            "structure: query, keys, values, score, normalise, aggregate": "fig-structure",
            "weights as the temperature goes from zero to infinity": "fig-temperature",
        },
        tables={
            "the steps with shapes": "tbl-steps",
            "every mechanism of the book as one row": "tbl-mechanisms",
        },
        theorems={
            "a permutation of the keys permutes the weights": "one-equation/keys-permuted",
            "a permutation of the queries permutes the rows": "one-equation/queries-permuted",
            "Nadaraya-Watson regression is attention": "one-equation/kernel-regression",
            "the output is the expectation of the values": "one-equation/distribution",
            "padding has no influence": "one-equation/padding",
        },
    ),
    "03-scores": Owed(
        topics={
            "length": "dot-agreement-times-length",
            "learned matrix": "bilinear-ask-in-your-own-words",
            "project": "when-the-widths-differ",
            "low-rank": "low-rank-is-query-and-key-projections",
            "key strength": "cosine-direction-only",
            "distance": "gaussian-minus-a-distance",
            "hidden layer": "additive-a-network-with-one-hidden-layer",
            "Luong": "concat-is-additive-with-one-matrix",
            "belong to": "an-identity-that-separates-it",
            "place": "location-do-not-look-at-the-key",
            "variance": "scores-spread",
            "entropy": "spread-out-scores-saturate",
            "gradient": "saturated-rows-hardly-learn",
            "GiB": "what-it-costs",
        },
        figures={
            "score surfaces": "fig-surfaces",
            "standard deviation and entropy against the width, scaled and not": "fig-std-entropy",
            "gradient norm against the width": "fig-gradient",
        },
        tables={
            "score families: formula, parameters, cost, paper": "tbl-families",
            "the same, counted": "tbl-counted",
            "steps to 95 % per score at growing width": "tbl-lookup",
        },
        labs={
            "a look-up task: steps per score at growing width": (
                "scores",
                [
                    *("std", "entropy", "saturation", "gradient"),
                    *(
                        f"lookup-{score}-{width}"
                        for score in ("dot", "scaled", "additive", "bilinear", "cosine", "gaussian")
                        for width in (16, 64, 256)
                    ),
                ],
            )
        },
    ),
    "04-normalizers": Owed(
        topics={
            "temperature": "softmax-a-share-for-everyone",
            "simplex": "sparsemax-the-nearest-distribution",
            "support": "the-threshold",
            "Tsallis": "entmax-the-family-between",
            "gate": "sigmoid-no-budget",
            "one-hot": "hard-attention-one-key",
            "reinforcement learning": "why-the-gradient-says-nothing",
            "REINFORCE": "optional-the-score-function-identity",
            "baseline": "optional-baselines",
            "backward": "optional-straight-through",
            "Gumbel": "optional-gumbel",
            "decoder": "windows-are-masks",
            "marginal": "optional-structured-attention",
            "hierarchical attention": "optional-structured-attention",
        },
        figures={
            "softmax, sparsemax and entmax on one simplex": "fig-simplex",
            "hard against soft maps": "fig-maps",
            "marginals of a chain": "fig-chain",
        },
        tables={"normalisers: support, gradient, cost": "tbl-normalisers"},
        labs={
            "REINFORCE without bias; its variance with and without a baseline": (
                "normalizers",
                ["unbiased", "drawn", "variance-ratio", "variance-mean"],
            )
        },
        theorems={
            "REINFORCE is unbiased against the gradient by enumeration": "normalizers/reinforce",
            "the marginals of a chain equal enumeration": "normalizers/marginals",
        },
    ),
    "05-seq2seq": Owed(
        topics={
            "embedding": "primer-words-as-vectors-networks-with-a-state",
            "a recurrent network carries a state": "primer-words-as-vectors-networks-with-a-state",
            "bidirectional network": "primer-words-as-vectors-networks-with-a-state",
            "fixed vector": "the-bottleneck",
            "additive score": "bahdanau-look-then-step",
            "bidirectional annotation": "bahdanau-look-then-step",
            "the state before the step": "bahdanau-look-then-step",
            "its new state asks": "luong-step-then-look",
            "plain dot product": "luong-step-then-look",
            "location does not": "four-scores",
            "input feeding": "input-feeding",
            "multiply-adds": "the-two-side-by-side",
            "global attention": "windows-local-attention",
            "local-m": "windows-local-attention",
            "local-p": "windows-local-attention",
            "beam search": "writing-greedy-and-beam",
            "weight is not influence": "alignment-maps-on-real-pairs",
            "called coverage": "coverage",
            "CLDR": "the-experiment",
            "CMUdict": "the-experiment",
        },
        figures={
            "the structure of traditional attention": "fig-traditional",
            "the structure of Bahdanau's": "fig-bahdanau",
            "the structure of Luong's": "fig-luong",
            "alignment maps on real pairs": "fig-alignments",
        },
        tables={
            "the steps": "tbl-steps",
            "Bahdanau against Luong": "tbl-side",
            "what it costs, counted": "tbl-cost",
            "the score functions on the same task": "tbl-scores",
            "the score functions on dates": "tbl-date-scores",
            "phonemes and words wrong": "tbl-phonemes",
        },
        labs={
            "accuracy against length: none, Bahdanau, Luong with four scores": (
                "seq2seq",
                [
                    *(
                        f"{name}-{length}"
                        for name in ("none", "bahdanau", "dot", "general", "concat", "location")
                        for length in (6, 10, 20)
                    ),
                    "parameters",
                ],
            ),
            "dates to ISO": ("seq2seq-dates", ["attention", "none", "patience"]),
            "dates to ISO, by score": (
                "dates-scores",
                ["dot", "general", "concat", "without", "parameters"],
            ),
            "spelling to phonemes": (
                "phonemes",
                [f"{what}-{how}" for what in ("phoneme", "word") for how in ("attention", "none")]
                + ["ratio", "monotone"],
            ),
        },
    ),
    "06-pointer": Owed(
        topics={
            "no dictionary of nails": "the-idea",
            "the end of the answer": "the-equation",
            "a distribution over the nails": "the-smallest-block",
            "classes as points": "a-vocabulary-that-is-the-input",
            "leftmost": "the-corners-of-a-hull",
            "every item once": "once-each-masks-of-chosen-points",
            "sorting is the task": "sorting-and-tours",
            "dynamic programming": "sorting-and-tours",
            "2-opt": "sorting-and-tours",
            "likeliest beginnings": "writing-it-down-greedy-sampled-beam",
            "projected once and kept": "writing-it-down-greedy-sampled-beam",
            "switch": "copying",
            "coverage loss": "coverage-not-the-same-place-twice",
            "fair opponent on names": "does-it-help",
            "GNU General Public License": "which-words-were-copied",
        },
        figures={
            "structure": "fig-structure",
            "predicted hulls, right and wrong": "fig-hulls",
            "tours": "fig-tours",
            "structure of copying": "fig-pointer-generator",
            "copied words highlighted": "fig-copied",
        },
        tables={
            "accuracy and area by the number of points, beside the paper": "tbl-hulls",
            "tours beside the exact ones": "tbl-tours",
            "copy against generate": "tbl-copying",
            "copying by kind of word": "tbl-kinds",
        },
        labs={
            "hulls": (
                "pointer",
                [
                    f"{what}-{n}"
                    for what in ("exact", "area", "invalid")
                    for n in (5, 10, 15, 20, 50)
                ],
            ),
            "sorting and tours": (
                "tours",
                [
                    *(
                        f"{way}-{n}"
                        for way in ("greedy", "beam", "shortest")
                        for n in (5, 10, 15, 20)
                    ),
                    *("attempt-20", "sorted-10", "early-20", "late-20"),
                ],
            ),
            "a summariser: copying helps on rare words": (
                "copying",
                [
                    *(f"{row}-l" for row in ("lead", "none", "replaced", "copying", "coverage")),
                    *(f"copying-{kind}" for kind in ("frequent", "rare", "outside", "never")),
                    *("gain", "gain-replaced", "times-never", "repeats-left", "wrong"),
                ],
            ),
        },
    ),
    "07-self-attention": Owed(
        topics={
            "take any length": "any-length-any-distance",
            "padded and masked": "any-length-any-distance",
            "bidirectional recurrent network": "a-recurrent-network-sees-what-is-near",
            "window of a few words": "a-recurrent-network-sees-what-is-near",
            "no parameters at all": "three-matrices",
            "can both prefer each other": "three-matrices",
            "frees what is told": "three-matrices",
            "the inputs as the rows": "the-equation",
            "nothing else changes": "cross-attention-other-sources",
            "permutation equivariant": "the-order-is-not-seen",
            "complete graph": "a-graph-with-all-its-edges",
            "adjacency matrix": "a-graph-with-all-its-edges",
            "graph attention networks": "a-graph-with-all-its-edges",
            "adds up the multiply-adds": "arithmetic",
            "longest chain of products": "steps-that-wait",
            "a toll": "paths",
            "dilated": "table-1-counted",
        },
        figures={
            "structure": "fig-structure",
            "an example sentence's map": "fig-map",
            "path lengths": "fig-paths",
            "the ways of a signal": "fig-ways",
            "what a recurrent layer sees": "fig-slopes",
        },
        tables={
            "the steps with shapes": "tbl-steps",
            "table 1 of Vaswani et al., counted": "tbl-table-1",
            "one attention with more and more matrices": "tbl-matrices",
            "verbs right by distance": "tbl-distance",
        },
        labs={
            "a dependency at a distance: RNN, CNN, self-attention with one head and four": (
                "self-attention",
                [
                    *(
                        f"{name}-{distance}"
                        for name in (
                            *("lstm", "dilated"),
                            *("one-head", "four-heads", "no-positions"),
                        )
                        for distance in (4, 16, 61)
                    ),
                    *("stacked-4", "patient-lstm", "grown-lstm"),
                    *(f"right-{kind}" for kind in ("none", "tied", "two", "three")),
                    *(f"outward-{kind}" for kind in ("none", "tied", "two", "three")),
                ],
            ),
        },
        theorems={
            "table 1: self-attention": "self-attention/row-attention",
            "table 1: recurrent": "self-attention/row-recurrent",
            "table 1: convolutional": "self-attention/row-convolutional",
            "table 1: restricted": "self-attention/row-restricted",
            "dilated convolutions": "self-attention/dilated",
            "what the bare input cannot do": "self-attention/circle",
            "permutation equivariance": "self-attention/equivariant",
            "paths on a graph": "self-attention/graph",
        },
    ),
    "08-multi-head": Owed(
        topics={
            "a mixture of what stands at the places": "the-idea",
            "multi-head attention": "the-equation",
            "in two drawers": "the-idea",
            "whatever the weights": "what-one-head-cannot-do",
            "values of the content alone": "where-the-theorem-ends",
            "by a matrix of its own": "queries-keys-and-values-of-its-own",
            "equal gradients": "what-makes-heads-differ",
            "unflatten": "split-and-merge",
            "a sum of products": "joined-then-projected",
            "multi-query attention": "fewer-keys-and-values",
            "grouped-query attention": "fewer-keys-and-values",
            "importance": "heads-that-can-go",
            "merged without the transpose": "where-it-breaks",
            "divided by the root of the model": "where-it-breaks",
            "a mask lost on the way": "where-it-breaks",
            "parallel heads": "what-it-costs",
            "one core": "what-it-costs",
            "CTC": "how-is-it-said",
            "overlap": "what-do-the-heads-look-at",
            "linear CKA": "what-do-the-heads-look-at",
            "did not reproduce": "which-could-go",
        },
        figures={
            "structure": "fig-structure",
            "background: what one head cannot do": "fig-background",
            "queries, keys and values of each head": "fig-qkv",
            "the computation step by step": "fig-computation",
            "split as an array": "fig-split",
            "merge as an array, right and wrong": "fig-merge",
            "concatenation and projection": "fig-projection",
            "what heads specialise in": "fig-specialised",
            "heads of a known task": "fig-reads",
            "pruning": "fig-pruning",
            "efficiency measured": "fig-efficiency",
        },
        tables={
            "features": "tbl-features",
            "single against multi-head": "tbl-single",
            "design principles": "tbl-principles",
            "queries, keys and values per head": "tbl-per-head",
            "steps": "tbl-steps",
            "split": "tbl-splitting",
            "merge": "tbl-merging",
            "advantages": "tbl-advantages",
            "efficiency measured": "tbl-times",
            "parameters": "tbl-parameters",
            "cache of grouped and multi-query heads": "tbl-cache",
            "heads at fixed width, with intervals": "tbl-heads",
        },
        labs={
            "heads 1, 2, 4, 8 at fixed width": (
                "multi-head",
                [
                    *(f"{what}-{heads}" for what in ("read", "phoneme") for heads in (1, 2, 4, 8)),
                    *("read-8-wide", "one-to-four", "deep-1", "deep-8"),
                ],
            ),
            "heads pruned greedily": (
                "multi-head",
                [
                    *(f"pruned-{count}-of-8" for count in (1, 2, 4, 7)),
                    *("tried-2-of-8", "tried-4-of-8", "pruned-4-of-16", "pruned-8-of-16"),
                ],
            ),
            "time at equal width": (
                "multi-head",
                ["time-fused", "time-readable", "time-one-by-one"],
            ),
        },
        theorems={
            "what one head cannot give": "multi-head/bound",
            "Concat times W^O is a sum": "multi-head/sum",
        },
    ),
    "09-positions": Owed(
        topics={
            "the same vector, whoever bites": "the-smallest-block",
            "causal mask": "a-mask-can-tell-the-order",
            "geometric row": "sines-and-cosines",
            "a shift is a rotation": "sines-and-cosines",
            "untrained row": "where-it-breaks",
            "reach": "vectors-for-distances-shaw",
            "vectors in the values": "vectors-for-distances-shaw",
            "the angle between them": "rotary-positions-clocks",
            "mixed layouts raise no error": "two-layouts",
            "a bound on their size": "does-the-score-fall-with-the-distance",
            "slope": "a-penalty-alibi",
            "top left": "where-a-query-stands-under-a-cache",
            "places or distances": "the-experiment",
        },
        figures={
            "the sinusoidal matrix": "fig-sinusoidal",
            "rotary as rotation": "fig-rotary",
            "perplexity against length": "fig-lengths",
        },
        tables={
            "encodings compared": "tbl-encodings",
            "extrapolation measured": "tbl-extrapolation",
        },
        labs={
            "train short, test long": (
                "positions",
                [
                    *(
                        f"{name}-{length}"
                        for name in ("none", "sinusoidal", "learned", "relative", "rotary", "alibi")
                        for length in (32, 64, 128, 512, "window")
                    ),
                    *("source", "alibi-times-16", "relative-times-16", "alibi-pays"),
                    *("sinusoidal-times-4", "learned-times-4", "rotary-times-4"),
                ],
            ),
        },
        theorems={
            "a shift is a rotation": "positions/shift",
            "distance alone": "positions/rotary-distance",
            "both layouts": "positions/layouts",
            "alignment under a cache": "positions/cache",
        },
    ),
    "10-transformer": Owed(
        topics={
            "nothing is crossed out": "the-idea",
            "a mean of the values": "listen-then-think",
            "doubly exponentially": "add-and-cross-nothing-out",
            "layer normalisation": "the-norm-one-position-at-a-time",
            "post-norm": "post-norm-and-pre-norm",
            "pre-norm": "post-norm-and-pre-norm",
            "three sublayers": "the-decoder",
            "the causal mask": "three-masks",
            "no padding mask of its own": "three-masks",
            "byte-pair encoding": "symbols-in-symbols-out",
            "tied to the table": "symbols-in-symbols-out",
            "warm-up": "a-rate-that-rises-first",
            "label smoothing": "label-smoothing",
            "dropout": "label-smoothing",
            "greedy writing and of the beam": "writing-one-symbol-after-the-other",
            "keep them": "the-cache",
            "one query, many keys": "the-cache",
            "outputs and gradients": "the-same-as-pytorchs",
            "alignments": "maps-of-all-three-kinds",
        },
        figures={
            "the encoder": "fig-encoder",
            "the full model": "fig-model",
            "the cache": "fig-cache",
            "attention maps of all three kinds": "fig-maps",
            "the three masks": "fig-masks",
            "rows with residuals and without": "fig-collapse",
            "the norm after and before": "fig-norms",
            "gradients before the first step": "fig-gradients",
            "the schedule of the learning rate": "fig-schedule",
            "norm and warm-up in training": "fig-norm-curves",
        },
        tables={
            "advantages": "tbl-advantages",
            "hyper-parameters and counts of base and big": "tbl-sizes",
            "where the parameters are": "tbl-parts",
            "which mask for which attention": "tbl-mask-kinds",
            "ablations": "tbl-ablations",
            "decoding speed with and without a cache": "tbl-cache",
            "what a layer costs": "tbl-cost",
            "the norm after and before, with warm-up and without": "tbl-norms",
            "translation beside the models of 05": "tbl-translation",
            "synopses beside the models of 06": "tbl-summaries",
        },
        labs={
            "the norm before and after, with warm-up and without": (
                "norms",
                [
                    *("after-warm", "after-without", "before-warm", "before-without"),
                    *("gain-after", "gain-before"),
                ],
            ),
            "ablations": (
                "ablations",
                [
                    *("whole", "residual", "norm", "positions", "scaling", "expansion"),
                    *("feed-forward", "own", "mask", "mask-wrong", "smoothing"),
                    *(f"cache-{steps}" for steps in (16, 64, 256, 512)),
                ],
            ),
            "translation against the best of 05 at equal parameters": (
                "translation",
                [
                    *("none", "rnnsearch", "transformer", "memory", "parameters", "gain"),
                    *("none-exact", "rnnsearch-exact", "exact"),
                ],
            ),
            "an abstractive summariser": ("summaries", ["rouge-1", "rouge-2", "rouge-l", "twice"]),
        },
        theorems={
            "the encoder is PyTorch's": "transformer/encoder",
            "the decoder is PyTorch's": "transformer/decoder",
            "no position sees its own symbol or a later one": "transformer/no-future",
            "padding changes nothing": "transformer/padding",
            "a cache changes nothing": "transformer/cache",
        },
    ),
    "11-pretraining": Owed(
        topics={
            "labels": "the-idea",
            "cloze test": "the-idea",
            "cross-entropies": "the-equation",
            "optima": "the-smallest-block",
            "below it is memory": "few-texts-are-learnt-by-heart",
            "worth texts": "few-texts-are-learnt-by-heart",
            "perplexity": "the-first-game-what-comes-next",
            "fine-tuning": "the-first-game-what-comes-next",
            "80 % become the mask": "the-second-game-what-is-covered",
            "forward and backward": "the-second-game-what-is-covered",
            "in-context learning": "a-loss-that-falls-in-one-step",
            "induction head": "by-hand",
            "several denominators": "why-one-layer-is-not-enough",
            "phase change": "learnt",
            "smeared keys": "learnt",
            "associative recall": "learnt",
            "22.6 million parameters": "a-real-one",
            "rests": "its-heads",
            "BM25": "search-in-this-book",
        },
        figures={
            "who may see what": "fig-games",
            "few texts are learnt by heart": "fig-few",
            "loss against step with the phase change": "fig-phase",
            "what the two layers look at": "fig-circuit",
            "heads of the real model": "fig-heads",
        },
        tables={
            "what few texts teach": "tbl-few",
            "masked modelling and next token against the optimum": "tbl-optimum",
            "BERT and GPT side by side": "tbl-side",
            "one layer, two layers": "tbl-induction",
            "the family and what each changed": "tbl-family",
            "what a mistake in loading does": "tbl-mistakes",
            "heads of the real model, measured": "tbl-heads",
            "search in this book": "tbl-search",
        },
        labs={
            "masked modelling against the optimum; few texts": (
                "pretraining",
                [
                    *(
                        f"{game}{what}"
                        for game in ("next", "masked", "shown")
                        for what in ("", "-best", "-excess")
                    ),
                    *(
                        f"{kind}-{n}"
                        for kind in ("counted", "scratch", "tuning", "end")
                        for n in (32, 256, 2048)
                    ),
                    *("few-best", "pretrained", "untouched"),
                ],
            ),
            "induction: one layer fails, two succeed": (
                "induction",
                [
                    *(f"{model}{what}" for model in ("one", "two") for what in ("", "-prefix")),
                    *("mixed", "apart", "prefix-start"),
                ],
            ),
            "real weights agree": (
                "pretrained",
                ["agreement", "wrong-gelu", "head-previous", "five-embeddings", "five-bm25"],
            ),
        },
        theorems={
            "one head of one layer": "induction/one-head",
            "the best guess": "pretraining/best-guess",
        },
    ),
    "12-memory-networks": Owed(
        topics={
            "Ada has the key": "the-idea",
            "embedded twice": "the-equation",
            "answers to the thing that it names": "the-smallest-block",
            "long-term": "what-is-memory",
            "short-term": "what-is-memory",
            "working memory plays": "what-is-memory",
            "controller": "a-network-with-a-memory-beside-it",
            "Two families": "a-network-with-a-memory-beside-it",
            "retrieval": "anything-outside-can-be-a-memory",
            "right on three of the four at most": "why-one-hop-is-not-enough",
            "Without the residual": "what-makes-it-a-hop",
            "Over the wrong axis": "what-makes-it-a-hop",
            "position encoding": "from-sentences-to-vectors",
            "empty memories": "when-was-it-told",
            "Adjacent": "tying-the-tables",
            "Layer-wise": "tying-the-tables",
            "exchanged for none": "a-linear-start",
            "Key hashing": "keys-and-values-of-different-make",
            "held against the truth": "which-facts-does-each-hop-read",
        },
        figures={
            "structure of memory-augmented networks": "fig-augmented",
            "memory network with hops": "fig-hops",
            "which facts each hop reads": "fig-read",
            "error by hops": "fig-error",
        },
        tables={
            "human against network memory": "tbl-human",
            "hops": "tbl-reading",
            "tying": "tbl-tying",
            "error by hops, beside the paper": "tbl-two",
            "kinds of question": "tbl-kinds",
        },
        labs={
            "hops": (
                "memory-networks",
                [
                    *(f"two-facts-{hops}" for hops in (1, 2, 3)),
                    *(
                        f"{what}-{hops}"
                        for what in ("failed", "unchosen", "longer")
                        for hops in (2, 3)
                    ),
                    *("one", "three", "yes-no", "counting", "way"),
                ],
            ),
        },
        theorems={"one hop": "memory-networks/one-hop"},
    ),
    "13-turing-machine": Owed(
        topics={
            "controller": "the-idea",
            "the look-up of associative recall": "the-smallest-block",
            "inverse temperature": "how-a-head-finds-its-place",
            "goes on from where it": "how-a-head-finds-its-place",
            "a convolution whose filter": "how-a-head-finds-its-place",
            "leaves a blur": "how-a-head-finds-its-place",
            "wipes and adds": "erase-then-add",
            "all erase before any adds": "erase-then-add",
            "feed-forward": "who-steers",
            "registers": "who-steers",
            "eight random bits": "copying",
            "has learnt to copy": "longer-than-it-was-taught",
            "need more than one loop": "repeating-and-recalling",
            "a copy of the round before": "again-and-again",
            "Content, then a step": "what-came-behind-it",
            "finite automaton": "what-the-name-promises",
            "rational weights": "what-the-name-promises",
            "one hidden layer, wide enough": "what-the-name-promises",
        },
        figures={
            "the structure": "fig-structure",
            "the addressing pipeline step by step": "fig-addressing",
            "memory while copying": "fig-memory",
            "generalisation against an LSTM": "fig-lengths",
            "where the heads go while repeating": "fig-repeat",
            "where the heads go while recalling": "fig-recall",
            "recall by number of items": "fig-items",
        },
        tables={
            "the steps with shapes": "tbl-steps",
            "the tasks": "tbl-tasks",
            "what the two theorems say and do not": "tbl-theorems",
            "copying by length": "tbl-copy",
            "repeat copy by vectors and times": "tbl-repeats",
            "recall by number of items": "tbl-recalled",
            "both tasks, the worst machine": "tbl-worst",
        },
        labs={
            "repeat copy and associative recall, beside an LSTM": (
                "turing-tasks",
                [
                    *(
                        f"repeat-{model}{sizes}"
                        for model in ("", "lstm-")
                        for sizes in ("5-3", "5-6", "10-6", "5-8", "5-12")
                    ),
                    *(
                        f"recall-{model}{items}"
                        for model in ("", "lstm-")
                        for items in (6, 10, 12, 15, 20)
                    ),
                    *("repeat-end-5-3", "slots-read", "recall-solved"),
                ],
            ),
            "copy, trained to 20, tested to 120, beside an LSTM": (
                "turing-machine",
                [
                    *(
                        f"{model}-{length}"
                        for model in ("machine", "lstm")
                        for length in (10, 20, 40, 60, 80, 100, 120)
                    ),
                    "roomy-120",
                ],
            ),
        },
    ),
    "14-hopfield": Owed(
        topics={
            "associative memory": "the-idea",
            "attractor": "the-idea",
            "fully connected network": "the-equation",
            "Asynchronous": "the-equation",
            "Synchronous": "the-equation",
            "Hebb's rule": "the-equation",
            "The first part is attention": "why-this-is-not-softmax",
            "lowers the energy": "always-downhill",
            "a cycle of two states": "always-downhill",
            "damage each in its own way": "pictures-stored-and-recalled",
            "Hebb's rule fails": "where-it-breaks",
            "what they share is added up": "pictures-that-look-alike",
            "Storkey's rule": "three-learning-rules",
            "pseudo-inverse rule": "three-learning-rules",
            "storage capacity": "how-much-it-holds",
            "crosstalk": "how-much-it-holds",
            "spurious states": "states-that-nobody-stored",
            "Reversed states": "states-that-nobody-stored",
            "Mixtures": "states-that-nobody-stored",
            "gain": "graded-units",
            "bidirectional associative memory": "pairs",
            "Krotov and Hopfield": "dense-associative-memory",
            "mutual": "where-it-breaks",
        },
        figures={
            "a fully connected network": "fig-network",
            "energy landscape": "fig-landscape",
            "recall of damaged pictures over time": "fig-recall",
            "pictures that look alike, by rule": "fig-alike",
            "overlap against load with the theory's curve": "fig-load",
            "capacity extrapolated": "fig-capacity",
            "three rules against load": "fig-rules",
            "states that nobody stored": "fig-mixture",
            "dense capacity against theory": "fig-dense",
        },
        tables={
            "recall beside attention": "tbl-softmax",
            "learning rules": "tbl-rules",
            "what holding means": "tbl-capacity",
            "where recall ends": "tbl-spurious",
            "expected and found": "tbl-found",
        },
        labs={
            "overlap and load, extrapolated": (
                "hopfield",
                [
                    "gap",
                    "overlap",
                    "half",
                    "capacity",
                    "capacity-all",
                    "interval-low",
                    "interval-high",
                ],
            ),
            "three rules": (
                "hopfield-rules",
                [
                    *(
                        f"{rule}-{start}"
                        for rule in ("hebb", "storkey", "pseudo")
                        for start in ("clean", "flipped")
                    ),
                    *("storkey-gain", "pseudo-gain", "pseudo-60", "behind"),
                ],
            ),
            "dense capacity against theory": (
                "dense-memory",
                [f"{what}-{order}" for what in ("off", "wrong", "most") for order in (2, 3, 4)],
            ),
        },
        theorems={
            "one after the other comes to rest": "hopfield/downhill",
            "all at once: a cycle of two at most": "hopfield/cycle",
            "the pseudo-inverse rule keeps every pattern": "hopfield/fixed",
            "graded units go downhill": "hopfield/graded",
            "pairs come to rest": "hopfield/pairs",
            "the critical load": "hopfield/critical",
            "what a dense memory holds": "dense-memory/capacity",
            "order two is Hebb's rule": "dense-memory/square",
        },
    ),
    "15-modern-hopfield": Owed(
        topics={
            "weighted mean": "the-idea",
            "log-sum-exp": "the-equation",
            "half the square of the step": "always-downhill",
            "a head of attention": "the-update-is-attention",
            "metastable state": "averages-that-are-fixed-points",
            "how near does one update land": "one-update-is-enough",
            "an exponential": "how-many-patterns",
            "Nothing is compressed": "how-many-patterns",
            "upper halves": "pictures-from-their-upper-halves",
            "HopfieldPooling": "layers-that-hold-a-memory",
            "multiple instance learning": "a-bag-among-clothes",
            "What does not follow": "what-it-means-for-the-transformer",
        },
        figures={
            "basins": "fig-basins",
            "retrieval error against separation with the bound": "fig-separation",
            "capacity against width": "fig-capacity",
            "real pictures from halves": "fig-halves",
        },
        tables={
            "classical, dense, modern": "tbl-three",
            "metastable averages": "tbl-metastable",
            "what the theorem promises": "tbl-promise",
            "the three layers": "tbl-layers",
            "pooling where a mean fails": "tbl-pool",
            "how many keys a head averages over": "tbl-regimes",
            "expected and found": "tbl-found",
        },
        labs={
            "capacity against width; violations of the bound": (
                "modern-hopfield",
                [
                    *("violations", "tried", "used", "stored-lost"),
                    *(
                        f"{what}-{kind}"
                        for what in ("rate", "expected")
                        for kind in ("whole", "damaged")
                    ),
                    *("fit-damaged", "whole-300000", "damaged-300000", "damaged-95"),
                    *(f"pictures-{kind}" for kind in ("raw", "centred", "normed")),
                    *("pool-mean-100", "pool-learnt-100", "pool-looks"),
                ],
            ),
        },
        theorems={
            "the paper's update": "modern-hopfield/update",
            "the update is attention": "modern-hopfield/attention",
            "no update raises the energy": "modern-hopfield/descent",
            "the error of one update": "modern-hopfield/error-bound",
            "well-separated patterns are stored": "modern-hopfield/stored",
            "the constants of the capacity theorem": "modern-hopfield/constants",
            "one step of the layer": "modern-hopfield/layer",
        },
    ),
    "16-fast-weights": Owed(
        topics={
            "interference": "the-idea",
            "would forbid it": "the-equation",
            "Hinton and Plaut": "the-equation",
            "crosstalk": "interference",
            "linear attention": "linear-attention",
            "a recurrent network whose state is a matrix": "three-forms",
            "gradient descent": "the-delta-rule",
            "triangular": "in-chunks",
            "attend to the recent past": "fast-weights-in-a-recurrent-network",
            "layer normalisation": "fast-weights-in-a-recurrent-network",
            "associative LSTM": "a-memory-in-one-vector",
            "more memory without more parameters": "a-memory-in-one-vector",
            "associative recall": "where-it-is-used",
        },
        figures={
            "structure": "fig-structure",
            "the memory matrix over time": "fig-over-time",
            "interference, and what the delta rule mends": "fig-interference",
            "where a trained network looks": "fig-looks",
            "learning curves at equal steps and equal CPU": "fig-curves",
        },
        tables={
            "fast weights, linear attention, delta rule": "tbl-three",
            "what has to be kept": "tbl-state",
            "capacity without parameters": "tbl-capacity",
            "associative retrieval": "tbl-retrieval",
        },
        labs={
            "associative retrieval at equal steps and equal CPU": (
                "fast-weights",
                [
                    f"{model}{what}"
                    for model in ("lstm", "longer", "fast", "linear", "softmax")
                    for what in ("", "-seconds")
                ]
                + ["hit"],
            ),
        },
        theorems={
            "linear attention is softmax of a log-kernel": "fast-weights/log-kernel",
            "three forms are one function": "fast-weights/forms",
            "the delta rule writes over": "fast-weights/overwrite",
            "matrix and attention are one network": "fast-weights/matrix",
            "nothing to correct between orthogonal keys": "fast-weights/orthogonal",
            "copies divide the noise": "fast-weights/copies",
        },
    ),
    "21-pros-and-cons": Owed(
        topics={
            "twice as many letters are four times as many comparisons": "the-idea",
            "the square stands in one term alone": "the-equation",
            "the path from any word to any other is one step": "long-dependencies",
            "allocation of limited resources": "allocation-of-computation",
            "the square is there": "time",
            "wait for each other": "time",
            "running maximum and a running sum": "memory",
            "the operation has none": "parameters",
            "when the text is short": "short-inputs",
            "four families": "cheaper-by-another-function",
            "associative recall": "what-is-lost-on-associative-recall",
            "are they faithful": "is-attention-explanation",
            "null space": "the-same-output-from-other-weights",
            "Jain and Wallace": "what-trained-weights-agree-with",
            "Wiegreffe and Pinter": "needed-and-good-for-somebody-else",
            "Serrano and Smith": "which-removal-turns-the-answer",
            "Bastings and Filippova": "which-removal-turns-the-answer",
            "Abnar and Zuidema": "through-several-layers",
        },
        figures={
            "cost against length": "fig-length",
            "what is compared with what": "fig-structure",
            "weights that follow the question": "fig-follow",
            "recall against the number of pairs": "fig-recall",
            "one review under four measures": "fig-review",
            "how far the measures agree": "fig-agree",
        },
        tables={
            "advantages": "tbl-advantages",
            "drawbacks": "tbl-drawbacks",
            "the efficient-attention families": "tbl-families",
            "the families run: products and look-ups": "tbl-lookups",
            "powers of the length": "tbl-slopes",
            "parameters": "tbl-parameters",
            "weights beside other measures": "tbl-agreement",
            "papers beside the lab": "tbl-papers",
        },
        labs={
            "time, memory, allocation and explanation": (
                "costs",
                [
                    *(f"slope-{layer}" for layer in ("kept", "fused", "gru", "conv")),
                    *(f"memory-slope-{layer}" for layer in ("kept", "fused", "gru", "conv")),
                    *("cross-kept-gru", "cross-fused-gru", "cross-fused-conv"),
                    *("longest-kept", "longest-fused", "short-rate-kept", "short-times-kept"),
                    *(f"follow-{kind}-spread" for kind in ("one", "colour", "all")),
                    *(f"even-{kind}-error" for kind in ("one", "colour", "all")),
                    *(
                        f"{model}-{what}"
                        for model in ("words", "states", "asked")
                        for what in (
                            *("tau-gradient", "tau-left-out", "tau-each-other", "hits-weights"),
                            *("shuffled", "others-distance", "removed-weights", "removed-product"),
                        )
                    ),
                    *("guided-learned", "guided-even", "guided-others"),
                    *("deep-tau-last", "deep-tau-rollout", "deep-lead", "deep-hits-rollout"),
                ],
            ),
            "what each family loses on associative recall": (
                "efficient",
                [
                    f"{family}-{pairs}"
                    for family in (
                        *("softmax", "window", "recurrence", "linear", "random-features"),
                        *("low-rank", "delta-rule", "linear-wide"),
                    )
                    for pairs in (4, 8, 32)
                ],
            ),
        },
        theorems={"other weights give the same output": "costs/not-identified"},
    ),
    "22-fast-attention": Owed(
        topics={
            "arithmetic intensity": "what-attention-waits-for",
            "online softmax": "the-equation",
            "invariant": "one-pass",
            "tile": "tiles",
            "form its scores again": "backwards-by-computing-again",
            "through a counter": "bytes-counted",
            "no exact way": "the-theorem-and-its-ends",
            "Triton": "on-a-gpu",
            "FlexAttention": "on-a-gpu",
            "bfloat16": "half-precision",
            "exponentials": "additive-scores-taken-apart",
            "tangents": "the-guard",
            "constant": "backwards",
            "block of queries": "windows-in-blocks",
            "global": "patterns",
            "linear attention": "other-sums",
            "low rank": "other-sums",
            "cache": "one-query-at-a-time",
        },
        figures={
            "two roofs": "fig-roofline",
            "what shrinking is for": "fig-rescale",
            "what lies on the desk": "fig-structure",
            "memory traffic": "fig-traffic",
            "sparse patterns": "fig-patterns",
            "time and memory against length": "fig-length",
        },
        tables={
            "operations a byte": "tbl-intensity",
            "formats of 16 bits": "tbl-formats",
            "what the next word costs": "tbl-decoding",
            "exact paths": "tbl-exact",
            "other answers for less": "tbl-cheaper",
            "what each path gains": "tbl-gains",
        },
        labs={
            "time, memory and errors against length": (
                "fast-attention",
                [
                    *("peak", "bandwidth", "one-query", "bf16"),
                    *(
                        "sdpa",
                        "sdpa-both",
                        "time-tiled",
                        "time-tiled-both",
                        "memory",
                        "memory-both",
                    ),
                    *("local", "mask", "linear", "linear-short"),
                    *("additive", "additive-both", "additive-memory", "additive-memory-both"),
                    *(
                        f"slope-{path}"
                        for path in ("attend", "sdpa", "tiled", "local", "linear", "separable")
                    ),
                    *(f"memory-slope-{path}" for path in ("attend", "tiled", "local", "linear")),
                    *(f"error-{path}" for path in ("sdpa", "tiled", "local", "additive")),
                ],
            ),
        },
        theorems={
            "tiles are softmax attention": "fast-attention/tiled",
            "the backward pass by computing again": "fast-attention/backward",
            "two numbers for each row": "fast-attention/two-numbers",
            "rows that may see nothing": "fast-attention/dead-rows",
            "memory linear in the length": "fast-attention/linear-memory",
            "low rank by its equation": "fast-attention/low-rank",
            "two patterns reach everywhere": "fast-attention/two-layers",
            "random features are unbiased": "fast-attention/unbiased",
        },
    ),
}


@cache
def ledger() -> Ledger:
    """The claims."""
    return load(ROOT)


def missing(chapter: str, text: str) -> list[str]:
    """What a chapter owes and does not have, in words."""
    owed, anchors = OWED[chapter], pieces(text)
    prose = {s.anchor: " ".join(s.text.split()).lower() for s in sections(text, f"{chapter}.md")}
    outside, position = "", 0
    for fence in fences(text):
        outside, position = outside + text[position : fence.start], fence.end
    outside += text[position:]
    printed = {match["words"].strip() for match in CLAIM.finditer(outside)}
    found = [
        f"topic {phrase!r}: not under #{anchor}"
        for phrase, anchor in owed.topics.items()
        if phrase.lower() not in prose.get(anchor, "")
    ]
    found += [
        f"{words}: no #{anchor}"
        for words, anchor in (owed.figures | owed.tables).items()
        if anchor not in anchors
    ]
    for words, (lab, names) in owed.labs.items():
        if f"](../labs/{lab}.ipynb" not in outside or not (DOCS / f"labs/{lab}.py").exists():
            found.append(f"{words}: no lab {lab}, or no link to it")
        for identifier in (f"{lab}/{name}" for name in names):
            if identifier not in printed or ledger().claim(identifier).lab != lab:
                found.append(f"{words}: no {{claim {identifier}}} measured by the lab")
    for words, identifier in owed.theorems.items():
        if f"](../claims.md#{identifier})" not in outside or not ledger().claim(identifier).test:
            found.append(f"{words}: no link to the theorem {identifier}")
    return found


def source(chapter: str) -> str:
    """The Markdown of a chapter."""
    return (DOCS / "chapters" / f"{chapter}.md").read_text(encoding="utf-8")


def test_every_finished_chapter_is_listed() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    finished = re.findall(r"chapters/(\S+)\.md", nav)
    assert finished == list(OWED), "add what the chapter owes to OWED, by its anchors"


@pytest.mark.parametrize("chapter", OWED)
def test_a_chapter_has_what_it_owes(chapter: str) -> None:
    assert missing(chapter, source(chapter)) == []


@pytest.mark.parametrize(
    ("chapter", "old", "new", "message"),
    [
        ("01-why-attention", 'fig="saliency"', 'fig="scene"', "two task queries: no #fig-saliency"),
        ("01-why-attention", "{#tbl-milestones}", "{#tbl-works}", "milestones: no #tbl-milestones"),
        ("01-why-attention", "{claim why-attention/tenfold}", "ten", "why-attention/tenfold"),
        ("02-one-equation", 'table="steps"', 'table="step"', "with shapes: no #tbl-steps"),
        ("02-one-equation", "## Keys and values", "## Two jobs", "not under #keys-and-values"),
        ("03-scores", "](../labs/scores.ipynb", "](../labs/other.ipynb", "no lab scores"),
        ("04-normalizers", "#normalizers/marginals)", "#other)", "normalizers/marginals"),
        ("04-normalizers", "REINFORCE", "It", "topic 'REINFORCE'"),
        ("05-seq2seq", 'fig="alignments"', 'fig="maps"', "real pairs: no #fig-alignments"),
        ("05-seq2seq", "{claim seq2seq/none-20}", "0", "seq2seq/none-20"),
    ],
)
def test_what_is_taken_away_is_missed(chapter: str, old: str, new: str, message: str) -> None:
    text = source(chapter)
    assert old in text
    assert any(message in fault for fault in missing(chapter, text.replace(old, new)))
