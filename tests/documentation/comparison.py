"""Compares what a page shows with what a command printed.

Words must be the same. `…` on the page stands for anything. An id, a hash and the folder of a checkpoint stand for
those of this run: the same one at every place where the page has the same one. A number that is measured (a time, an
accuracy, a size, a port) stands for any number that is written in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

KINDS = "job|ds|ckpt|upl|pred|wrk|req|key|evt|alias"  #: what ids begin with
ID = r"[0-9a-z]{26}"
NAMED = {
    "placeholder": rf"\b(?:{KINDS})_…",
    "id": rf"\b(?:{KINDS})_{ID}\b",
    "hash": r"\b[0-9a-f]{32,64}\b",
    "folder": r"\b(?:recovery|epoch)-\d{8}-e\d+\b",
}
#: How a measured number is written on a page, and which others are written so.
_DECIMAL = r"-?\d+\.\d+(?:[eE][-+]?\d+)?"
MEASURED = {
    "time": (
        r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?",
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?",
    ),
    "build": (r"\b\d+\.\d+\.\d+\+\w+(?:\.\w+)*", r"\d+\.\d+\.\d+(?:\+\w+(?:\.\w+)*)?"),
    "revision": (r"(?<=\brevision )\d{4}\b", r"\d{4}"),
    "port": (r"(?<=127\.0\.0\.1:)\d+", r"\d+"),
    "decimal": (rf"(?<![\w.]){_DECIMAL}(?![\w.]*\.\d)", rf"(?:{_DECIMAL}|-?\d+[eE]-\d+)"),
    "listed": (r"(?<= )\d+(?= \d{4}-\d\d-\d\d )", r"\d+"),
    "amount": (r"\b\d[\d,]*(?= (?:s|ms|bytes|B|kB|KB|MB|GB|minutes)\b)", r"\d[\d,]*"),
    "bar": (r"#{3,}", r"#*"),
    "count": (
        r"(?<=\bstep )\d+|(?<=\bsteps )\d+|(?<=\"step\":)\d+|(?<=\"epoch\":)\d+|(?<=_bytes\":)\d+"
        r"|(?<=\"version\":)\d+|(?<='answers': )\d+",
        r"\d+",
    ),
}
_TOKENS = re.compile(
    "|".join(
        f"(?P<{name}>{form})"
        for name, form in {
            **NAMED,
            "anything": r"\s*…\s*",
            "break": r"\s*\n\s*",
            "gap": r"[ \t]{2,}",
            "space": r"[ \t]",
            **{name: forms[0] for name, forms in MEASURED.items()},
            "word": r"[^\W\d_]+",
            "text": r".",
        }.items()
    )
)


@dataclass
class Names:
    """What an id, a hash or a folder of the page stands for in this run."""

    real: dict[str, str] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)  #: by kind of id: what was seen last

    def note(self, shown: str, real: str) -> None:
        """Remember what a name of the page stands for."""
        if not shown.endswith("…"):
            self.real[shown] = real

    def see(self, printed: str) -> None:
        """Remember the ids in what was printed: one that the page cuts is the last of its kind."""
        for match in re.finditer(NAMED["id"], printed):
            self.latest[match[0].partition("_")[0]] = match[0]

    def put_into(self, text: str) -> str:
        """A command as it must be typed in this run."""
        return re.sub("|".join(NAMED.values()), self._resolve, text)

    def _resolve(self, match: re.Match[str]) -> str:
        shown = match[0]
        if shown in self.real:
            return self.real[shown]
        kind = shown.partition("_")[0]
        if re.fullmatch(NAMED["folder"], shown) or re.fullmatch(NAMED["hash"], shown):
            return shown
        assert kind in self.latest, f"nothing before it on the page says what {shown} is"
        self.note(shown, self.latest[kind])
        return self.latest[kind]


def difference(shown: str, printed: str, names: Names) -> str | None:
    """What differs; None: nothing does, and the names that the page introduces are remembered."""
    parts: list[tuple[str, str]] = []  # as on the page, as a pattern
    groups: dict[str, str] = {}
    for match in _TOKENS.finditer(shown.strip()):
        parts.append((match[0], _pattern(match.lastgroup or "", match[0], names, groups)))
    text = printed.strip()
    if (found := _match(parts, text, re.Pattern.fullmatch)) is not None:
        for group, name in groups.items():
            names.note(name, found[group])
        return None
    return _explain(parts, text)


def _pattern(kind: str, shown: str, names: Names, groups: dict[str, str]) -> str:
    if kind in NAMED:
        if shown in names.real:
            return re.escape(names.real[shown])
        if shown in groups.values() and kind != "placeholder":
            return f"(?P={next(group for group, name in groups.items() if name == shown)})"
        groups[group := f"name{len(groups)}"] = shown
        form = {"placeholder": rf"{shown[:-1]}{ID}", "id": rf"{shown.partition('_')[0]}_{ID}"}.get(kind, NAMED[kind])
        return f"(?P<{group}>{form})"
    fixed = {"anything": r"\s*.*?\s*", "break": r"\s*", "gap": r"\s+", "space": r"[ \t]+"}
    return fixed.get(kind) or (MEASURED[kind][1] if kind in MEASURED else re.escape(shown))


def _match(parts: list[tuple[str, str]], text: str, how: Callable[..., re.Match[str] | None]) -> re.Match[str] | None:
    return how(re.compile("".join(pattern for _, pattern in parts), re.DOTALL), text)


def _explain(parts: list[tuple[str, str]], text: str) -> str:
    """Up to where the page is right."""
    right, end = 0, 0
    for length in range(1, len(parts) + 1):
        if (found := _match(parts[:length], text, re.Pattern.match)) is None:
            break
        right, end = length, found.end()
    shown = "".join(part for part, _ in parts[right:])[:200] or "(the end)"
    rest = text[end:][:400] or "(the end)"
    return f"--- the page goes on with\n{shown}\n--- and this was printed\n{rest}\n--- in all\n{text[:3000]}"
