"""The glossary in the search: the names by which a section is found, in English and in Chinese.

Material's search takes each word of a query for the beginning of a word of the index (but a word
with a hyphen behind it for a whole one), and takes Chinese apart by the words that the index
happens to hold. So, before the index is written:

- Each section that explains a term gets the term's English names in a field of its own, `names`; a
  term that no section explains gives them to its entry in the glossary. A name is one word there,
  and stands once for each of its words, turned so as to begin with that word. So "score" finds the
  score before it finds the additive score, and "additive score" finds the latter by two words.
- The entry of a term gets its Chinese names in the field `chinese`, and each of their endings, so
  that a part of a compound is found too; the whole name counts more. A name with one of the words
  that Chinese puts behind almost any of them, as "layer" and "mechanism", leads there too.
- The words of the names, each with one letter left out, doubled or in its neighbour's place, stand
  in the field `slips` of the shortest name that has them: the search corrects nothing by itself.
- A question that readers ask gets its words once more, in the field `asked`: who types it finds
  its answer, though each of its words has a section of its own.
- A word joiner, which cannot be seen, follows each run of Chinese. A query is then no word of the
  index, is not taken apart, and is looked for as it is.

These fields are searched and not shown. mkdocs.yml says what they count beside titles and text.
The words of a name may stand in a longer one, as those of "associative memory" do in "dense
associative memory". So each entry also lists its names whole, as `exact`, which is not searched.

`mend(site)` mends the worker that Material searches with:

- A query that is a name, whole, finds the entry of that name before all others.
- Its lunr takes two different places of its tree of words for one where digits follow letters, as
  in "ratio_40" and "ratio_4096". Then a word stands in the tree that the index does not have, and a
  query that begins it ends in an error.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from attnbook.book.glossary import HAN, PAGE, Glossary, Term, read

JOINER, ENDING = "\u2060", "\u2061"
QUESTIONS = "faq.html#"
BEHIND = ("机制", "模型", "网络", "层", "函数", "算法")
TIMES = {1: 8, 2: 3, 3: 2}  # how often a name of so many words stands in its field
_WORD = re.compile(r"([^\W_]+)(-?)")
_NODE = re.compile(r"(\w)=\1\+(\w)\+(\w)\.id\}return \1\}")  # in lunr.TokenSet.prototype.toString
_SEARCH = "search(e){if(e=e.replace("
_RANKED = ".sort((s,o)=>o.score-s.score)"
_WHOLE = (
    r'search(e){const whole=e.toLowerCase().replace(/[*+~^"]/g," ").trim().replace(/\s+/g," ");'
)
_FIRST = (
    _RANKED
    + ".map((s,n,all)=>(s.exact||[]).includes(whole)?{...s,score:2*all[0].score}:s)"
    + _RANKED
)
Word = tuple[str, str, int]  # what it is found by, how it is written, how often it stands there


def name_sections(index: Any, root: Path) -> None:
    """Let Material's search index be written with the names of the glossary.

    Args:
        index: of Material's search; None where there is no search.
        root: the repository.
    """
    if index is None:
        return
    write = index.generate_search_index

    def generate(previous: Any) -> Any:
        catalogue(index.entries, read(root))
        return write(previous)

    index.generate_search_index = generate


def mend(site: Path) -> None:
    """Let a whole name rank first, and lunr's nodes say where a letter ends and a number begins.

    Args:
        site: the folder of the built site.

    Raises:
        ValueError: where the search is not written as it is known to be.
    """
    for path in site.glob("assets/javascripts/workers/search.*.min.js"):
        text, nodes = _NODE.subn(r'\1=\1+\2+\3.id+" "}return \1}', path.read_text("utf-8"))
        found = [nodes, text.count(_SEARCH), text.count(_RANKED)]
        if found != [1, 1, 1]:
            raise ValueError(f"{path.name}: found {found} places to mend, expected one of each")
        text = text.replace(_SEARCH, _WHOLE + _SEARCH.partition("{")[2]).replace(_RANKED, _FIRST)
        path.write_text(text, encoding="utf-8")


def catalogue(entries: list[dict[str, Any]], glossary: Glossary) -> None:
    """Add the names to the entries of a search index."""
    fields: dict[str, dict[str, dict[str, Word]]] = {"names": {}, "chinese": {}, "slips": {}}
    exact = whole(glossary)
    typed = slips(glossary)
    for term in glossary.terms:
        own = location(f"{PAGE}#{term.anchor}", glossary)
        best = location(term.explained, glossary) if term.explained else own
        wrong = [(slip, slip, 1) for slip, meant in typed.items() if meant == term]
        for name, place, words in (
            ("names", best, english(term)),
            ("chinese", own, chinese(term)),
            ("slips", best, wrong),
        ):
            known = fields[name].setdefault(place, {})
            for word in words:
                known[word[0]] = max(known.get(word[0], word), word, key=lambda one: one[2])
    for entry in entries:
        for name in ("title", "text"):
            entry[name] = HAN.sub(rf"\g<0>{JOINER}", entry[name])
        if entry["location"].startswith(QUESTIONS) and entry["title"].endswith("?"):
            entry["asked"] = " ".join(word for word, _ in _WORD.findall(entry["title"].lower()))
        if entry["location"] in exact:
            entry["exact"] = exact[entry["location"]]
        for name, places in fields.items():
            if found := places.get(entry["location"]):
                entry[name] = " ".join(" ".join([text] * n) for _, text, n in found.values())


def whole(glossary: Glossary) -> dict[str, list[str]]:
    """The names of each address, as they are typed: in small letters, and in the plural too."""
    owner: dict[str, str] = {}
    for term in glossary.terms:
        own = location(f"{PAGE}#{term.anchor}", glossary)
        best = location(term.explained, glossary) if term.explained else own
        owner |= {name.lower(): best for name in (term.term, *term.also)}
        owner |= {name.lower(): own for name in term.zh.split("、")}
    for name, place in list(owner.items()):
        more = [name + word for word in BEHIND] if HAN.search(name) else [plural(name)]
        for other in more:
            owner.setdefault(other, place)
    found: dict[str, list[str]] = defaultdict(list)
    for name, place in owner.items():
        found[place].append(name)
    return found


def location(place: str, glossary: Glossary) -> str:
    """The address of a section in the index: that of its page, where it is the page's first."""
    page, _, anchor = place.partition("#")
    url = PurePosixPath(page).with_suffix(".html").as_posix()
    section = glossary.by_place.get(place)
    return url if section is not None and len(section.path) == 1 else f"{url}#{anchor}"


def english(term: Term) -> Iterator[Word]:
    """The words by which a term is found in English."""
    for name in (term.term, *term.also):
        found = _WORD.findall(name.lower())
        words = [word for word, _ in found]
        times = max(1, TIMES.get(len(words), 1) // (1 if name == term.term else 2))
        for n, (word, hyphen) in enumerate(found):
            yield word, word if hyphen else JOINER.join([*words[n:], *words[:n], ""]), times
        if (many := plural(words[-1])) != words[-1]:
            yield many, JOINER.join([many, *words[:-1], ""]), times


def plural(word: str) -> str:
    """The plural of a word; one that ends in s is left as it is.

    >>> [plural(word) for word in ("mask", "query", "key", "weights")]
    ['masks', 'queries', 'keys', 'weights']
    """
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word if word.endswith("s") else word + "s"


def slips(glossary: Glossary) -> dict[str, Term]:
    """Each way to mistype a word of a name, and the term that is meant: the shortest with it."""
    owner: dict[str, Term] = {}
    for term in sorted(glossary.terms, key=lambda term: len(_WORD.findall(term.term))):
        for name in (term.term, *term.also):
            for word, _ in _WORD.findall(name.lower()):
                owner.setdefault(word, term)
    found: dict[str, Term] = {}
    for word, term in owner.items():
        for slip in misspelt(word):
            if not any(right.startswith(slip) for right in owner):
                found.setdefault(slip, term)
    return found


def misspelt(word: str) -> list[str]:
    """A word of five letters or more with a letter left out, doubled, or in its neighbour's place.

    >>> misspelt("query")[:4]
    ['qery', 'qeury', 'qquery', 'queery']
    >>> misspelt("key")
    []
    """
    if len(word) < 5 or not word.isalpha():
        return []
    ways = {word[:n] + word[n + 1 :] for n in range(1, len(word))}
    ways |= {word[:n] + word[n] + word[n:] for n in range(len(word))}
    ways |= {word[:n] + word[n + 1] + word[n] + word[n + 2 :] for n in range(len(word) - 1)}
    return sorted(ways - {word})


def chinese(term: Term) -> Iterator[Word]:
    """The words by which a term is found in Chinese."""
    for run, hyphen in re.findall(rf"({HAN.pattern})(-?)", term.zh):
        yield (run, run, 1) if hyphen else (run, run + JOINER, max(2, 12 // len(run)))
        more = [run + word for word in BEHIND if not run.endswith(word)]
        for part in (*(run[n:] for n in range(1, len(run) - 1)), *more):
            yield part + ENDING, part + ENDING, 1
