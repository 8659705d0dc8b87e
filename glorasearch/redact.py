"""Texts without credentials: `redact` for any text, `redact_url` for one URL, `conceal` for what is known to be secret.

Every message passes `redact`: those of `glorasearch.errors`, and whatever the command line prints, logs or records. It
finds credentials by their shape, and those of the URLs that `conceal` was given wherever they stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN: Final = "***"
"""Stands for a credential."""
LEAST_CHARACTERS: Final = 4
"""Shorter parts of concealed URLs are looked for in quotes and before an `@` only: elsewhere they are words."""
WHOLE_WORDS: Final = 8
"""Shorter parts are looked for as whole words only."""

Span = tuple[int, int]

_SECRET_WORDS: Final = frozenset(
    {"auth", "authorization", "bearer", "cred", "credential", "credentials", "creds", "jwt", "key", "oauth", "pass"}
    | {"passfile", "passphrase", "passwd", "password", "pwd", "sas", "secret", "sig", "signature", "token"}
)
"""A part of a URL's query is a credential if its name has one of these words."""
_SECRET_PARTS: Final = ("password", "passwd", "secret", "token", "apikey", "accesskey", "accountkey", "sslkey")
"""Or if its name has one of these anywhere."""
_SURE_NAME: Final = (
    r"[\w-]*(?:passw(?:or)?d|passphrase|secret|(?:access|account|api|private|shared)[_-]?key|"
    r"(?:access|api|auth|bearer|github|gitlab|hf|refresh|security|session)[_-]?token)[\w-]*"
)
"""Names of credentials wherever they stand; `key` and `token` alone have other meanings, too."""
_USER_SHOWN: Final = re.compile(r"(?:cockroachdb|mariadb|mssql|mysql|oracle|postgres|postgresql)\b", re.IGNORECASE)
"""Schemes of databases, whose user is no credential; elsewhere it may be a token or an access key."""
_PLAIN: Final = re.compile(r"(?:file|local|sqlite(?!\+pysqlcipher))\b", re.IGNORECASE)
"""Schemes that name files, in which `:` and `@` mean nothing; a ciphered SQLite file has a password."""
_CHAIN: Final = re.compile(r"(?:(?:simplecache|filecache|blockcache|cached|dir|reference|tar|zip)::)+")
"""What fsspec puts before another URL."""
_SCHEME: Final = re.compile(r"[^/@:]*(?::(?=/)|(?=//))")
"""Also a misspelt one: `post gres:/`, `postgresql//`."""
_URL: Final = re.compile(r"(?:[A-Za-z][\w.+-]*:)?//|[A-Za-z][\w.+-]*:/(?=[^/?#@\s]*:[^/?#@\s]*@)")
_USER: Final = re.compile(r"[^:/?#@]*:")
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_NO_PASSWORD: Final = re.compile(r"\[|arn:|[^:]*::|[^:]*:\d*\W*$", re.IGNORECASE)
"""Host and port, and what else may have a `:` where no `@` follows: an IPv6 address, a bucket's ARN, a chain."""
_TOKEN: Final = re.compile(r"""[^\s"'<>`]+""")
_PARAMETER: Final = re.compile(r"[?&;#](?P<name>[^=&;?#]{1,100})=")
_ASSIGNMENT: Final = re.compile(
    rf"""(?<![\w-]){_SURE_NAME}(?:["']\s*:\s*(?=["'])|["']?\s?=\s?)"""
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"'&;,)\]}]+))""",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    r"""(?:\bBearer|\bAuthorization["']?\s*[:=]\s*["']?\w+)\s+(?P<value>[\w.~+/=-]{4,})"""
    r"""|\b(?:[\w-]+-(?:key|token)|(?:set-)?cookie)["']?:\s*["']?(?P<other>[^\s"']+)""",
    re.IGNORECASE,
)
_SECRET_VARIABLE: Final = re.compile(r"PASSWORD|SECRET|TOKEN$|ACCESS_KEY$|API_KEY$|CREDENTIALS$")
_concealed: set[str] = set()


def redact(text: str) -> str:
    """A text without the credentials in it, which become `***`: of URLs, of queries, of assignments, of headers."""
    small = text.lower()  # hosts become so, and a password may be taken for one
    for secret in sorted(_concealed, key=len, reverse=True):
        if secret.lower() in small:
            text = re.sub(_pattern(secret), HIDDEN, text, flags=re.IGNORECASE)
    return _without(text, _text_spans(text))


def redact_url(url: str) -> str:
    """A URL, or what was meant to be one, without its credentials.

    Unlike `redact` it knows where the URL ends: spaces, quotes and whatever else a URL cannot hold belong to the part
    in which they stand.
    """
    return _without(url, _spans(url))


def redact_all(value: Any) -> Any:
    """A structure of mappings and lists with its texts redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key, item) else redact_all(item) for key, item in value.items()}
    return [redact_all(item) for item in value] if isinstance(value, (list, tuple)) else value


def has_secret(url: str) -> bool:
    """Whether a URL holds a credential."""
    return redact_url(url) != url


def conceal(*urls: str | None) -> None:
    """Hide the credentials of these URLs in every text that passes `redact` from now on.

    For what drivers and libraries say about the parts into which they have taken a URL.
    """
    for url in urls:
        for start, end in _spans(url or ""):
            secret = (url or "")[start:end]
            for part in {*_parts(secret), *_parts(unquote(secret))}:
                _remember(part, LEAST_CHARACTERS)
                if 0 < len(part) < LEAST_CHARACTERS:
                    _concealed.update((f"'{part}'", f'"{part}"', f"{part}@"))


def conceal_environment(environment: Mapping[str, str] | None = None) -> None:
    """Hide the values of variables of the environment whose names say that they are credentials."""
    for name, value in (os.environ if environment is None else environment).items():
        if _SECRET_VARIABLE.search(name):
            _remember(value, WHOLE_WORDS)


def _remember(secret: str, least: int) -> None:
    plain = unquote(secret)
    forms = {secret, plain, unquote_plus(secret), quote(plain, safe=""), quote(plain), quote_plus(plain)}
    forms |= {repr(form)[1:-1] for form in forms}
    _concealed.update(form for form in forms if len(form) >= least)


def _parts(secret: str) -> Iterator[str]:
    """What is said of a secret by those who took it for something else, and the values in a connection string."""
    yield from (secret, secret.partition(":")[2], *re.split(r"[@:/?#&;\s]", secret))
    for assignment in secret.split(";"):
        name, _, value = assignment.partition("=")
        if _names_secret(name):
            yield value


def _pattern(secret: str) -> str:
    if len(secret) >= WHOLE_WORDS:
        return re.escape(secret)
    return "".join(
        (
            r"(?<!\w)" if re.match(r"\w", secret) else "",
            re.escape(secret),
            r"(?!\w)" if re.search(r"\w$", secret) else "",
        )
    )


def _text_spans(text: str, *, nested: bool = False) -> list[Span]:
    """Where credentials are in a text; `nested` in one that was written in the value of a parameter."""
    spans = [found.span(found.lastgroup or 0) for kind in (_ASSIGNMENT, _HEADER) for found in kind.finditer(text)]
    for token in _TOKEN.finditer(text) if "//" in text or ":/" in text or "=" in text else ():
        part, start = token.group(), token.start()
        for url in _URL.finditer(part):
            spans += _shifted(_user_spans(part[url.start() :]), start + url.start())
        spans += _shifted(_query_spans(part, "[&;#]", nested=nested), start)
    return spans


def _spans(url: str) -> list[Span]:
    """Where credentials are in a URL, or in what databases take in its place: `host=h password=...`."""
    assigned = [found.span(found.lastgroup or 0) for found in _ASSIGNMENT.finditer(url)]
    return [*_user_spans(url), *_query_spans(url, "&"), *assigned]


def _user_spans(url: str) -> Iterator[Span]:
    """Where the user part of a URL holds credentials: up to the last `@`, since passwords hold such characters, too."""
    chain = _CHAIN.match(url)
    begin = 0 if chain is None else chain.end()
    scheme = _SCHEME.match(url, begin)
    start = begin if scheme is None else scheme.end()
    slashes = url.startswith("//", start)
    while url.startswith("/", start):
        start += 1
    end = url.rfind("@")
    if scheme is not None and _PLAIN.match(url, begin):
        return
    authority = _AUTHORITY.match(url, start)
    if end <= start:
        if scheme is not None and slashes and authority is not None and not _NO_PASSWORD.match(authority.group()):
            password = authority.group().find(":") + 1
            yield from [(start + password, authority.end())] if password else []
        return
    user = _USER.match(url, start, end)
    if user is not None:
        yield (user.end() if scheme is not None and _USER_SHOWN.match(url, begin) else start, end)
    elif scheme is None or _USER_SHOWN.match(url, begin) or authority is None:
        return
    elif not slashes or authority.end() > end:
        yield (start, end)


def _query_spans(text: str, separators: str, *, nested: bool = False) -> Iterator[Span]:
    """Where the values of parameters with secret names are, or those in which such URLs or parameters are written.

    A value ends at one of the separators.
    """
    for found in _PARAMETER.finditer(text):
        end = re.compile(separators).search(text, found.end())
        span = (found.end(), len(text) if end is None else end.start())
        value = text[slice(*span)]
        within = not nested and _text_spans(f"?{unquote(value)}", nested=True)
        if within or _names_secret(unquote(found["name"])):
            yield span


def _names_secret(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()  # accessKey as access_key
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", words)) or any(part in words for part in _SECRET_PARTS)


def _is_secret(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, str) and bool(re.fullmatch(_SURE_NAME, key, re.IGNORECASE))


def _shifted(spans: Iterable[Span], by: int) -> Iterator[Span]:
    return ((start + by, end + by) for start, end in spans)


def _without(text: str, spans: Iterable[Span]) -> str:
    """The text with each span, and spans that touch as one, replaced."""
    parts: list[str] = []
    done = 0
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if start > done or not parts:
            parts += [text[done:start], HIDDEN]
        done = max(done, end)
    return "".join(parts) + text[done:]
