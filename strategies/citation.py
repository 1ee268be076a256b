"""A paper, as a line of text and as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """A paper.

    Args:
        key: BibTeX key.
        authors: ``"Family, Given"`` each.
        title: as published.
        year: of publication.
        venue: proceedings or journal; empty for a preprint.
        arxiv: identifier, such as ``"1602.05629"``; empty where there is none.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str
    arxiv: str

    def __str__(self) -> str:
        """Return one line: authors (year). Title. Venue. arXiv id."""
        names = [author.split(",")[0] for author in self.authors]
        who = names[0] if len(names) == 1 else f"{names[0]} et al."
        venue = f" {self.venue}." if self.venue else ""
        arxiv = f" arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{who} ({self.year}). {self.title}.{venue}{arxiv}"

    @property
    def bibtex(self) -> str:
        """The entry for a paper's bibliography."""
        fields = {
            "title": f"{{{self.title}}}",
            "author": " and ".join(self.authors),
            "booktitle": self.venue,
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        kind = "inproceedings" if self.venue else "misc"
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}"])
