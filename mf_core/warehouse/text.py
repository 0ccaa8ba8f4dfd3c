"""What a text must be to stand in Postgres."""


def storable(text: str) -> str:
    """Return `text` with a question mark for what Postgres can't store: NUL and lone surrogates.

    A text that comes back as it was can be stored, and looked for.
    """
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
