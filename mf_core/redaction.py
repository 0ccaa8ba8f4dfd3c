"""What of a URI may be shown or stored: never a password, a token or a signature.

One rule for logs, messages, alerts and the warehouse. Where it can't tell what is a secret, it
hides more rather than less.
"""

import re

_HIDDEN = "***"
# What our own messages write where a user puts the own ones.
_EXAMPLE = "USER:PASSWORD"
# A scheme of one letter is the drive of a Windows path.
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+:/+)(?P<rest>.*)", re.DOTALL)
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+[^\s]*")
# Where another URI or path begins. Any other line may be the rest of a secret that was broken.
_NEXT = re.compile(r"\n(?=\s*(?:[A-Za-z][A-Za-z0-9+.-]+:/|[/~.]))")
_LONGEST_REASON = 300
_BEHIND_PATH = re.compile(r"[?#]")


def redacted(uri: str) -> str:
    """Return `uri`, or several of them one a line, without what `_redacted` hides."""
    return "\n".join(map(_redacted, _NEXT.split(uri)))


def _redacted(uri: str) -> str:
    """Return `uri` without user, password, query and fragment; a path without a scheme as it is.

    A password may hold `/`, `@`, `:` or `#` itself, so all up to the last `@` is hidden. Of a
    chained URI (`simplecache::https://...`) that holds for all parts together.
    """
    match = _SCHEME.search(uri)
    if match is None:
        return uri
    before = uri[: match.start()]
    scheme = match["scheme"]

    user, at, place = match["rest"].rpartition("@")
    if at and _BEHIND_PATH.search(user):
        # The @ may stand in a query, or the ? in a password: nothing is sure to be the host.
        return f"{before}{scheme}{_HIDDEN}"

    path = without_query(place)
    query = place[len(path) :]
    shown_user = f"{_EXAMPLE if user == _EXAMPLE else _HIDDEN}@" if at else ""
    shown_query = f"{query[0]}{_HIDDEN}" if query else ""
    return f"{before}{scheme}{shown_user}{path}{shown_query}"


def without_query(path: str) -> str:
    """Return what stands before the query and the fragment of a URI."""
    return _BEHIND_PATH.split(path, maxsplit=1)[0]


def without_secrets(text: str) -> str:
    """Return a message with every URI in it redacted."""
    return _IN_TEXT.sub(lambda match: redacted(match[0]), text)


def reason_of(error: BaseException, uri: str) -> str:
    """Return what `error` says of `uri`.

    A library may quote a part of a URI that no rule finds again, so of a URI with secrets only the
    kind of the error is said. What it says is cut to one line.
    """
    kind = type(error).__name__
    if isinstance(error, OSError) and isinstance(error.strerror, str):
        said = error.strerror
    elif redacted(uri) == uri:
        said = str(error)
    else:
        return kind
    lines = without_secrets(said).strip().splitlines()
    return lines[0][:_LONGEST_REASON] if lines else kind
