from __future__ import annotations

import json

from cu_market.domain.features import MOST_NUMBERS, StepFeatures, features_of_config


def test_numbers_are_kept_by_name_and_lists_by_their_length() -> None:
    found = features_of_config(
        {"limit": 3, "deep": {"rate": 0.5, "flags": [True, False]}, "years": [2020, 2021, 2022]}
    )
    assert found.config == (
        ("deep.flags items", 2.0),
        ("deep.rate", 0.5),
        ("limit", 3.0),
        ("years items", 3.0),
    )
    assert found.amounts["config limit"] == 3.0


def test_everything_else_is_told_apart_by_a_digest_that_tells_nothing() -> None:
    small, large = (features_of_config({"mode": mode, "limit": 1}) for mode in ("small", "large"))
    assert small.config == large.config
    assert small.config_digest != large.config_digest
    assert "small" not in json.dumps(small.to_record())
    assert features_of_config({"limit": 1}).config_digest == ""


def test_secrets_are_not_even_looked_at() -> None:
    config = {"limit": 1, "api_token": 12345, "pin": 4711, "db": {"password": "one", "port": 5432}}
    found = features_of_config(config)
    assert dict(found.config) == {"limit": 1.0, "db.port": 5432.0}
    other = features_of_config({**config, "db": {"password": "two", "port": 5432}})
    assert other == found
    assert features_of_config({"key": {"env": "MY_VARIABLE"}}) == StepFeatures()


def test_names_are_read_by_their_words_and_inner_dots_hide_nothing() -> None:
    secret = {"pwd": 1234, "private_key": 99, "api-key": 77, "db": {"password.old": 4321}}
    secret |= {"accountNumber": 123456789, "dbPassword": 7, "APIToken": 5}
    assert features_of_config(secret) == StepFeatures()
    plain = features_of_config({"mapping": {"rows": 3}, "shipping": 4, "pinned": 5, "token": 6})
    assert dict(plain.config) == {"mapping.rows": 3.0, "shipping": 4.0, "pinned": 5.0}


def test_numbers_that_json_has_no_word_for_are_told_apart_only() -> None:
    found = features_of_config({"a": float("inf"), "b": float("nan"), "c": 10**400, "d": 1})
    assert found.config == (("d", 1.0),)
    assert found.config_digest
    json.dumps(found.to_record(), allow_nan=False)


def test_a_config_of_many_numbers_is_cut_and_none_is_nothing() -> None:
    assert len(features_of_config({f"n{k}": k for k in range(100)}).config) == MOST_NUMBERS
    assert features_of_config(None) == StepFeatures()


def test_a_record_is_read_as_written() -> None:
    full = StepFeatures(
        input_rows=0, upstream_keys=7, config=(("a", 1.5),), config_digest="12345678"
    )
    for each in (full, StepFeatures()):
        assert StepFeatures.from_record(json.loads(json.dumps(each.to_record()))) == each
    assert StepFeatures().to_record() == {}
