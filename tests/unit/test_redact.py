"""Credentials in URLs of every shape, also of those that are none, are in no message."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from glorasearch import redact as module
from glorasearch.errors import ConfigError, DatabaseError
from glorasearch.redact import conceal, conceal_environment, has_secret, redact, redact_all, redact_url

CORE = "Zq7XwVk9"
"""In every part of a secret, and in nothing else."""
SCHEMES = (
    "postgresql",
    "postgresql+psycopg",
    "mysql",
    "s3",
    "gs",
    "az",
    "ftp",
    "sftp",
    "https",
    "github",
    "ray",
    "simplecache::s3",
    "filecache::simplecache::https",
    "no-such-scheme",
)
BROKEN_SCHEMES = ("postgresql:/", "postgresql:///", "postgresql//", "postgresql:", "//", "", ":", "pos tgres://")
NAMES = (
    "password",
    "sslpassword",
    "passfile",
    "token",
    "access_token",
    "accessToken",
    "key",
    "api-key",
    "APIKEY",
    "sslkey",
    "secret",
    "client_secret",
    "sig",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Credential",
    "p%61ssword",
    "account_key",
)
HOSTS = ("host", "host:5432", "host:x", "[::1]:99", "", "10.0.0.1:99999999", "a.b-c")
PATHS = ("", "/", "/db", "/a@b/c", "/a b", "/%", "//x")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_concealed", set())


def secrets(characters: str) -> st.SearchStrategy[str]:
    """Texts with the core in every part that is between characters of meaning."""
    parts = st.lists(st.text(characters, max_size=3), min_size=1, max_size=3)
    return st.builds(lambda first, rest: first + CORE + CORE.join(rest) + CORE, st.text(characters, max_size=2), parts)


SPACELESS = secrets("@:/?#&=%;+$!*()[]{}~^|\\,.-_äaZ09")
ANY = secrets("@:/?#&=%;+ \t\n\"'<>`$!*()[]{}~^|\\,.-_äaZ09")
IN_QUERY = secrets("@:/?#%+ \"'<>$!;=~^|\\,.-äaZ09")


@given(
    st.sampled_from([*(f"{scheme}://" for scheme in SCHEMES), *BROKEN_SCHEMES]),
    st.sampled_from(("user", "", "u.s-r", "user%40corp")),
    ANY,
    st.sampled_from(HOSTS),
    st.sampled_from(PATHS),
)
@example("postgresql://", "u", f"{CORE}@ss:{CORE}", "h:x", "/db")
def test_the_password_of_a_user_is_never_shown(scheme: str, user: str, secret: str, host: str, path: str) -> None:
    assume("@" not in path)  # else more is hidden, as the next test says
    url = f"{scheme}{user}:{secret}@{host}{path}"
    assert CORE not in redact_url(url)
    assert redact_url(url).endswith(f"@{host}{path}")
    assert has_secret(url)


@given(st.sampled_from(SCHEMES), ANY, st.sampled_from(HOSTS), st.sampled_from(PATHS), st.sampled_from(NAMES), IN_QUERY)
def test_neither_are_those_of_user_and_query_together(
    scheme: str, first: str, host: str, path: str, name: str, second: str
) -> None:
    assert CORE not in redact_url(f"{scheme}://user:{first}@{host}{path}?x=1&{name}={second}&y=2")


@given(st.sampled_from(SCHEMES), st.sampled_from(HOSTS), st.sampled_from(PATHS), st.sampled_from(NAMES), IN_QUERY)
def test_a_secret_of_the_query_is_never_shown(scheme: str, host: str, path: str, name: str, secret: str) -> None:
    shown = redact_url(f"{scheme}://{host}{path}?connect_timeout=2&{name}={secret}&application_name=me")
    assert CORE not in shown
    assert shown.endswith("***&application_name=me")


@given(st.sampled_from([scheme for scheme in SCHEMES if not scheme.startswith(("postgres", "mysql"))]), ANY)
def test_a_user_alone_may_be_a_token(scheme: str, secret: str) -> None:
    assume(not set(secret) & set("/?#"))
    assert CORE not in redact_url(f"{scheme}://{secret}@host/path")


@given(st.sampled_from(SCHEMES), SPACELESS, st.sampled_from(HOSTS), st.sampled_from(NAMES), secrets("@:/?%+$!*~^|\\,."))
def test_they_are_found_within_a_text(scheme: str, first: str, host: str, name: str, second: str) -> None:
    url = f"{scheme}://user:{first}@{host}/db?{name}={second}"
    for text in (url, f"cannot open {url!r}; try another", f"({url})", f"<{url}>", f"a\n{url}\nb", json.dumps([url])):
        assert CORE not in redact(text)
        assert CORE not in str(DatabaseError(text))


@given(st.sampled_from([*(f"{scheme}://" for scheme in SCHEMES), *BROKEN_SCHEMES]), ANY, st.sampled_from(HOSTS))
def test_what_was_concealed_is_found_in_every_form(scheme: str, secret: str, host: str) -> None:
    from urllib.parse import quote, unquote

    conceal(f"{scheme}user:{secret}@{host}/db")
    parts = [secret, quote(secret), unquote(secret), repr(secret), secret.rpartition("@")[2], secret.partition(":")[2]]
    for part in parts:
        assert CORE not in redact(f"invalid literal for int() with base 10: {part} and so on")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@host/name", "postgresql://me:***@host/name"),
        ("postgresql://me@host/name", "postgresql://me@host/name"),
        ("s3://AKIA:abc/def@bucket/x", "s3://***@bucket/x"),
        ("https://ghp_123@github.com/x", "https://***@github.com/x"),
        ("see https://host:8265/a and http://b", "see https://host:8265/a and http://b"),
        ("https://host/x?sv=1&sig=abc%3D&se=2", "https://host/x?sv=1&sig=***&se=2"),
        ("host=h password='a b\\'c' user=me", "host=h password='***' user=me"),
        ("{'aws_secret_access_key': 'abc', 'n': 1}", "{'aws_secret_access_key': '***', 'n': 1}"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "--set search.trials=200",
        "backbone.args={class_token=false,global_pool='avg'}",
        "npz:/data/tasks.npz@task",
        "folder:/data/a@b: no folder",
        "s3://bucket/a@b/c",
        "sqlite:////data/a:b@c/x.db",
        "file:///data/a:b@c",
        "key 'password': expected a string, found 3",
        "unknown key 'tokens'; allowed are a, b",
        "write sqlite:///path/to/file.db or postgresql://user@host/name",
        "hf-hub:timm/vit@main",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text
    assert str(ConfigError(text)) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite+pysqlcipher://:hidden@/x.db", "sqlite+pysqlcipher://***@/x.db"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dhidden&x=1", "mssql+pyodbc:///?odbc_connect=***&x=1"),
        ("https://h/?next=https%3A%2F%2Fu%3Ahidden%40h2", "https://h/?next=***"),
        ("s3://b/p?endpoint_url=https://u:hidden@h", "s3://b/p?endpoint_url=***"),
        ("host=h user=u password=hidden", "host=h user=u password=***"),
        ("s3://AKIA:hidden", "s3://AKIA:***"),
        ("postgresql://me:hidden", "postgresql://me:***"),
        ("https://h/x?jwt=hidden", "https://h/x?jwt=***"),
        ("http://head:8265.", "http://head:8265."),
        ("http://[::1]:8265", "http://[::1]:8265"),
        ("s3://arn:aws:s3:eu-west-1:123:accesspoint/x", "s3://arn:aws:s3:eu-west-1:123:accesspoint/x"),
        ("zip://a.csv::https://host/x.zip", "zip://a.csv::https://host/x.zip"),
        ("postgresql://h/x?target_session_attrs=read-write", "postgresql://h/x?target_session_attrs=read-write"),
    ],
)
def test_other_shapes_of_urls(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    if " " not in url and "endpoint" not in url:
        assert redact(f"cannot open {url} now") == f"cannot open {shown} now"
    conceal(url)
    assert redact("refused: HIDDEN") == ("refused: ***" if "hidden" in url else "refused: HIDDEN")


def test_short_parts_of_a_password_are_hidden_where_drivers_say_them() -> None:
    conceal("postgresql://me:a@bc/d@host/db")
    assert redact("failed to resolve host 'BC'") == "failed to resolve host ***"
    assert redact("no host bc@host; a word: abc") == "no host ***host; a word: abc"


def test_variables_of_the_environment_are_hidden() -> None:
    conceal_environment({"PGPASSWORD": f"{CORE}1", "HF_TOKEN": "yes", "HOME": "/home/me-and-you"})
    assert redact(f"refused: {CORE}1; yes; /home/me-and-you") == "refused: ***; yes; /home/me-and-you"


def test_structures() -> None:
    given = {"url": "https://a:b@c/x", "n": [1, "https://a:b@c"], "api_key": "x", "class_token": "map"}
    assert redact_all(given) == {
        "url": "https://***@c/x",
        "n": [1, "https://***@c"],
        "api_key": "***",
        "class_token": "map",
    }
