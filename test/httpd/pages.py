# SPDX-License-Identifier: Apache-2.0
"""HTML as a reader sees it, and whether it is sound."""
import html.parser

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}
# What pages of ours are made of: anything else, such as a script, is of somebody else.
KNOWN = {"a", "body", "div", "dd", "dl", "dt", "h1", "h2", "h3", "head", "header", "html", "li", "main", "meta", "ol", "p",
         "section", "small", "span", "style", "table", "tbody", "td", "th", "thead", "time", "title", "tr", "ul", "bdi",
         "code", "b", "nav", "footer", "strong", "summary", "details", "pre"} | VOID
UNSEEN = set(range(0x200b, 0x2010)) | set(range(0x2028, 0x202f)) | set(range(0x2060, 0x2070)) | {0x61c, 0xfeff}


class Page(html.parser.HTMLParser):
    """Tables by class, as lists of rows of cells: (text, titles, links). AssertionError if it is not well-formed."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tables, self.headings, self.text, self.tags = [], {}, [], "", []
        self.cell = self.rows = None
        assert not UNSEEN & set(map(ord, source)) and not any(ord(c) < 32 and c != "\n" for c in source)
        self.feed(source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        assert len(names) == len(attrs) and not any(name.startswith("on") for name in names), attrs
        assert tag in KNOWN, tag
        self.tags.append((tag, names))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables.setdefault(names.get("class"), [])
        elif tag == "tr":
            self.rows.append((names.get("class"), []))
        elif tag in ("td", "th"):
            self.cell = {"tag": tag, "class": names.get("class"), "text": "", "titles": [], "links": []}
            self.rows[-1][1].append(self.cell)
        elif tag == "br" and self.cell:
            self.cell["text"] += "\n"
        if self.cell and "title" in names:
            self.cell["titles"].append(names["title"])
        if "href" in names:
            assert names["href"].startswith(("http://", "https://", "/", "?", "./")), names
            if self.cell:
                self.cell["links"].append(names["href"])

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag, (tag, self.open)
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        self.text += data
        if self.cell:
            self.cell["text"] += data
        if {"h1", "h2", "h3"} & set(self.open):
            self.headings.append(data)


def lines_of(text):
    """`Key: value` lines of server-status?auto."""
    return [tuple(line.split(": ", 1)) for line in text.splitlines() if line.startswith("Managed")]
