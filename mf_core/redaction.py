"""What of a URI may be shown or stored: never a password, a token or a signature.

One rule for logs, messages, alerts and the warehouse. Where it can't tell what is a secret, it
hides more rather than less.
"""

import re

_HIDDEN = "***"
# A scheme of one letter is the drive of a Windows path.
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+:/+)(?P<rest>.*)", re.DOTALL)
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+[^\s]*")
_BEHIND_PATH = re.compile(r"[?#]")


def redacted(uri: str) -> str:
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

    path = _BEHIND_PATH.split(place, maxsplit=1)[0]
    query = place[len(path) :]
    shown_user = f"{_HIDDEN}@" if at else ""
    shown_query = f"{query[0]}{_HIDDEN}" if query else ""
    return f"{before}{scheme}{shown_user}{path}{shown_query}"


def without_secrets(text: str) -> str:
    """Return a message with every URI in it redacted."""
    return _IN_TEXT.sub(lambda match: redacted(match[0]), text)


def reason_of(error: BaseException, uri: str) -> str:
    """Return what `error` says of `uri`.

    A library may quote a part of a URI that no rule finds again, so of a URI with secrets only the
    kind of the error is said.
    """
    if redacted(uri) == uri:
        said = without_secrets(str(error)).strip()
        return said or type(error).__name__
    if isinstance(error, OSError) and isinstance(error.strerror, str):
        return f"{type(error).__name__}: {without_secrets(error.strerror)}"
    return type(error).__name__
