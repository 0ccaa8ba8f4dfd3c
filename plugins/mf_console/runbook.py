"""The runbook as a page: where the first line of a red task's log leads."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

# docs/runbook.md; the package brings it along.
RUNBOOK = Path(__file__).parent / "runbook.md"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Runbook</title>
<link rel="stylesheet" href="console.css">
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""


@cache
def runbook_page() -> str:
    """Return the runbook as HTML; each section has an anchor of its name."""
    # The text is the project's own. Markup in it would be shown as text.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(RUNBOOK.read_text(encoding="utf-8"))
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(following.content))
        for part in token.children or ():
            _keep_link_within_reach(part)
    content = markdown.renderer.render(tokens, markdown.options, {})
    return _PAGE.format(content=content)


def _anchor(title: str) -> str:
    """Return the anchor that a title has on code hosts too, such as `storage-grows`."""
    words = re.sub(r"[^\w\s-]", "", title.lower())
    return re.sub(r"\s+", "-", words.strip())


def _keep_link_within_reach(part: Token) -> None:
    """Take the address off a link to another file of the sources, which is not served here."""
    address = str(part.attrGet("href") or "")
    if part.type == "link_open" and not address.startswith(("#", "https://")):
        part.attrs.pop("href", None)
