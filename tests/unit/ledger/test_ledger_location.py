from __future__ import annotations

from pathlib import Path

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.ledger.location import ledger_url, parse_url, shown


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
