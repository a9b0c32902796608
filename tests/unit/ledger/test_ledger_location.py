from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.ledger.location import follow, ledger_url, parse_url, secrets_in, shown


def test_the_configured_url_wins(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://u:secret@h/db"
    assert ledger_url(str(tmp_path), url) == url
    assert ledger_url(None, f" {url} ") == url


def test_the_default_is_a_file_under_dagster_home(tmp_path: Path) -> None:
    home = tmp_path / "a home with #odd%20 signs: ü@"
    home.mkdir()
    url = ledger_url(str(home), None)
    assert parse_url(url).database == str(home / "cu-market" / "ledger.db")
    assert ledger_url(str(home), "  ") == url


@pytest.mark.parametrize(
    ("home", "what"),
    [
        (None, "not set"),
        (" ", "not set"),
        ("/no/such/directory", "not a directory"),
        ("relative", "not an absolute path"),
    ],
)
def test_a_missing_home_says_what_to_do(home: str | None, what: str) -> None:
    with pytest.raises(InvalidInputError, match=f"DAGSTER_HOME=.*{what}.*director"):
        ledger_url(home, None)


def test_a_home_that_no_url_can_name_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "why?"
    home.mkdir()
    with pytest.raises(InvalidInputError, match="configure the ledger url"):
        ledger_url(str(home), None)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nonsense", "not a URL"),
        ("postgresql://u:secret@h:port/db", "not a URL"),
        ("mysql://u:secret@h/db", "mysql keeps no ledger"),
        ("sqlite://", "a database in memory"),
        ("sqlite:///:memory:", "a database in memory"),
        ("sqlite:///ledger.db", "four slashes"),
    ],
)
def test_a_url_that_cannot_be_used_says_why_and_keeps_the_secret(url: str, what: str) -> None:
    with pytest.raises(InvalidInputError, match=what) as caught:
        ledger_url(None, url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_url_is_shown_without_password_and_query() -> None:
    url = parse_url("postgresql+psycopg2://u:secret@h/db?sslpassword=hidden")
    assert shown(url) == "postgresql+psycopg2://u:***@h/db"


NAMED = {
    "hostname": "db.internal",
    "username": "me",
    "password": {"env": "CU_MARKET_TEST_SECRET"},
    "db_name": "d",
}


def test_a_reference_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CU_MARKET_TEST_SECRET", "p@ss/word")
    monkeypatch.setenv("CU_MARKET_TEST_URL", "postgresql://h/d")
    url = follow({"postgres_db": NAMED}, "ledger_url")
    assert url == "postgresql://me:p%40ss%2Fword@db.internal:5432/d"
    more = {
        **NAMED,
        "port": 6432,
        "scheme": "postgresql+psycopg2",
        "params": {"sslmode": "require"},
    }
    url = follow({"postgres_db": more}, "ledger_url")
    assert url == ("postgresql+psycopg2://me:p%40ss%2Fword@db.internal:6432/d?sslmode=require")
    by_name = {"env": "CU_MARKET_TEST_URL"}
    for reference in (by_name, {"postgres_url": by_name}, "postgresql://h/d"):
        assert follow(reference, "ledger_url") == "postgresql://h/d"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"env": "CU_MARKET_TEST_SECRET"}, "ledger_url.env='CU_MARKET_TEST_SECRET': this env"),
        ({"postgres_db": NAMED}, "ledger_url.postgres_db.password.env='CU_MARKET_TEST_SECRET'"),
        ({"postgres_db": {"hostname": "h"}}, "without db_name, username"),
        ({"url": "x"}, "ledger_url='url': not a reference"),
    ],
)
def test_a_reference_that_leads_nowhere(
    reference: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CU_MARKET_TEST_SECRET", raising=False)
    with pytest.raises(InvalidInputError) as caught:
        follow(reference, "ledger_url")
    assert said in str(caught.value)


def test_secrets_that_are_written_out_are_found() -> None:
    found = {
        "postgresql://u:secret@h/d": ["the URL's password"],
        "postgresql://h/d?password=secret": ["the URL's password"],
        "not a url: secret": ["the URL's password"],
        "postgresql://u@h/d": [],
    }
    for url, parts in found.items():
        assert list(secrets_in(url)) == parts
        assert list(secrets_in({"postgres_url": url})) == parts
    assert list(secrets_in({"env": "NAME"})) == []
    assert list(secrets_in({"postgres_url": {"env": "NAME"}})) == []
    assert list(secrets_in({"postgres_db": NAMED})) == []
    written = {**NAMED, "password": "secret", "params": {"sslpassword": "x"}}
    assert list(secrets_in({"postgres_db": written})) == ["password", "params"]
