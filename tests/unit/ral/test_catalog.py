from __future__ import annotations

import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from typer.testing import CliRunner

from cu_market.cli.app import app
from cu_market.domain.gpu import normalise_gpu_name
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.ral.bids import collect_bids
from cu_market.ral.catalog.offers import without_dominated
from cu_market.ral.catalog.provider import CatalogProvider
from cu_market.ral.catalog.store import import_catalog, list_catalogs, open_catalog
from cu_market.ral.catalog.table import LeftOut, read_table
from cu_market.ral.provider import Provider
from cu_market.ral.registry import load_providers

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HEADER = "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,Region,Price,SpotPrice\n"
GOOD = HEADER + (
    "small,2,4,,,east,0.10,0.03\n"
    "big,4,16,,,east,0.20,\n"
    "worse,4,8,,,east,0.30,\n"
    "gpu,8,64,NVIDIA A100-SXM4-80GB,1,west,2.5,\n"
    "nowhere,1,1,,,east,,\n"
    "eighth,4,16,l4,0.125,east,0.01,\n"
)


def write(tmp_path: Path, text: str = GOOD, name: str = "cloud.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def make(tmp_path: Path, text: str = GOOD, **options: object) -> CatalogProvider:
    return CatalogProvider.from_config("cloud", {"file": str(write(tmp_path, text)), **options})


def request(cpu_millis: int, memory_bytes: int, gpu_type: str | None = None) -> ResourceRequest:
    return ResourceRequest(
        request_id="step",
        timestamp=NOW,
        duration_ms=1000,
        gpu_type=gpu_type,
        needs=ResourceVector(
            cpu_millis=cpu_millis, memory_bytes=memory_bytes, gpu_count=int(gpu_type is not None)
        ),
    )


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("a100-80gb", "A100-80GB"),
        ("A100-SXM4-40GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("v100-32gb", "V100-32GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("RTX6000-Ada", "RTX6000-ADA"),
        ("l4", "L4"),
        ("NVIDIA", "NVIDIA"),
    ],
)
def test_one_name_for_each_gpu(said: str, name: str) -> None:
    assert normalise_gpu_name(said) == name
    assert normalise_gpu_name(name) == name


def test_rows_are_read_into_integers_and_unpriced_ones_left_out() -> None:
    table = read_table(GOOD, "cloud.csv")
    small, big, _, gpu = table.rows
    assert small.price_microusd_per_hour == 100_000
    assert small.spot_microusd_per_hour == 30_000
    assert small.size == ResourceVector(cpu_millis=2000, memory_bytes=4 * GIB)
    assert big.spot_microusd_per_hour is None
    assert (gpu.gpu_type, gpu.size.gpu_count) == ("A100-80GB", 1)
    assert table.left_out == {LeftOut.UNPRICED: 1, LeftOut.PARTIAL_GPU: 1}
    assert table.zone_rows == 0


def test_every_problem_is_told_with_its_row() -> None:
    text = HEADER + (
        "a,two,4,,,east,0.1,\n"
        "b,2,4,A100,,east,0.1,\n"
        ",2,-4,,,east,-1,cheap\n"
        "c,2,4,,,east,0.1,\n"
        "c,2,4,,,east,0.2,\n"
    )
    with pytest.raises(InvalidInputError) as caught:
        read_table(text, "cloud.csv")
    said = [(p.where, p.value) for p in caught.value.problems]
    assert said == [
        ("cloud.csv: row 2: vCPUs", "two"),
        ("cloud.csv: row 3: AcceleratorCount", ""),
        ("cloud.csv: row 4: MemoryGiB", "-4"),
        ("cloud.csv: row 4: InstanceType", ""),
        ("cloud.csv: row 4: Price", "-1"),
        ("cloud.csv: row 4: SpotPrice", "cheap"),
        ("cloud.csv: row 6: InstanceType", "c"),
    ]


ZONED = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,"
    "AvailabilityZone,Arch\n"
)
ZONES = ZONED + (
    "m6i.large,,,2.0,8.0,,0.096,0.041,us-east-1,us-east-1a,x86_64\n"
    "m6i.large,,,2.0,8.0,,0.096,0.035,us-east-1,us-east-1b,x86_64\n"
    "m6i.large,,,2.0,8.0,,,0.039,us-east-1,us-east-1c,x86_64\n"
    "m6i.large,,,2.0,8.0,,0.107,,eu-west-1,eu-west-1a,x86_64\n"
    "spot-only,,,4.0,16.0,,,0.02,us-east-1,us-east-1a,x86_64\n"
    "nowhere,,,4.0,16.0,,,,us-east-1,us-east-1a,x86_64\n"
    "nowhere,,,4.0,16.0,,,,us-east-1,us-east-1b,x86_64\n"
    ",T4,1.0,,,T4,0.35,0.11,us-east-1,us-east-1a,\n"
    ",tpu-v3-8,1.0,,0.0,tpu-v3-8,8.0,2.4,us-east-1,us-east-1b,\n"
)
"""As SkyPilot writes them: a row a zone, numbers with a fraction, GPUs and TPUs by themselves."""


def test_zones_of_a_region_are_one_row_with_their_lowest_prices() -> None:
    table = read_table(ZONES, "vms.csv")
    said = [
        (row.instance_type, row.region, row.price_microusd_per_hour, row.spot_microusd_per_hour)
        for row in table.rows
    ]
    assert said == [
        ("m6i.large", "us-east-1", 96_000, 35_000),
        ("m6i.large", "eu-west-1", 107_000, None),
        ("spot-only", "us-east-1", None, 20_000),
    ]
    assert table.zone_rows == 2
    assert table.left_out == {LeftOut.PRICED_APART: 2, LeftOut.UNPRICED: 2}


def test_a_price_that_one_zone_alone_has_is_the_regions() -> None:
    text = ZONED + ("a,,,1,1,,,,e,e1,\na,,,1,1,,,0.2,e,e2,\na,,,1,1,,0.5,,e,e3,\n")
    (row,) = read_table(text, "vms.csv").rows
    assert (row.price_microusd_per_hour, row.spot_microusd_per_hour) == (500_000, 200_000)


def test_an_architecture_has_one_name_however_a_cloud_writes_it() -> None:
    text = ZONED + "a,,,1,1,,1,,e,e1,x86_64\na,,,1,1,,1,,e,e2,x64\nb,,,1,1,,1,,e,e1,AArch64\n"
    assert [row.arch for row in read_table(text, "vms.csv").rows] == ["amd64", "arm64"]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("m6i.large,,,4.0,8.0,,0.1,,us-east-1,us-east-1d,x86_64", "vCPUs"),
        ("m6i.large,,,2.0,4.0,,0.1,,us-east-1,us-east-1d,x86_64", "MemoryGiB"),
        ("m6i.large,L4,1,2.0,8.0,,0.1,,us-east-1,us-east-1d,x86_64", "AcceleratorName"),
        ("m6i.large,,,2.0,8.0,,0.1,,us-east-1,us-east-1d,arm64", "Arch"),
    ],
)
def test_a_type_of_two_sizes_in_one_region_is_a_problem(line: str, column: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_table(ZONES + line + "\n", "vms.csv")
    (problem,) = caught.value.problems
    assert (problem.where, problem.value) == ("vms.csv: row 11: InstanceType", "m6i.large")
    assert problem.what == f"in row 2, same region, it has another {column}"


def test_a_second_row_is_a_problem_where_no_column_names_the_zone() -> None:
    with pytest.raises(InvalidInputError, match="column AvailabilityZone") as caught:
        read_table(HEADER + "c,2,4,,,e,0.1,\n" * 2, "cloud.csv")
    (problem,) = caught.value.problems
    assert problem.where == "cloud.csv: row 3: InstanceType"


def test_a_file_of_accelerators_alone_says_why_nothing_is_left() -> None:
    with pytest.raises(InvalidInputError, match=r"no machine with a price .*2: no instance type"):
        read_table(ZONED + ",T4,1,,,T4,0.35,,e,e1,\n" * 2, "vms.csv")


zoned = st.tuples(
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["east", "west"]),
    st.sampled_from([None, 10, 20, 30]),
    st.sampled_from([None, 1, 2, 3]),
)


@seed(20261129)
@given(st.lists(zoned, max_size=12))
def test_every_row_of_a_file_is_merged_or_counted_and_the_order_of_zones_is_nothing(
    drawn: list[tuple[str, str, int | None, int | None]],
) -> None:
    lines = [
        f"{name},{'' if name else 'T4'},{'' if name else 1},1,1,,"
        f"{price or ''},{spot or ''},{region},z{number},\n"
        for number, (name, region, price, spot) in enumerate(drawn)
    ]
    always = "always,,,1,1,,1,,east,z,\n"
    table = read_table(ZONED + always + "".join(lines), "vms.csv")
    assert len(table.rows) + table.zone_rows + sum(table.left_out.values()) == 1 + len(lines)
    for row in table.rows[1:]:
        own = [each for each in drawn if each[:2] == (row.instance_type, row.region)]
        prices = [10**6 * price for *_, price, _ in own if price]
        spots = [10**6 * spot for *_, spot in own if spot]
        assert row.price_microusd_per_hour == min(prices, default=None)
        assert row.spot_microusd_per_hour == min(spots, default=None)
    other = read_table(ZONED + always + "".join(reversed(lines)), "vms.csv")
    assert set(other.rows) == set(table.rows)
    assert (other.zone_rows, other.left_out) == (table.zone_rows, table.left_out)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", HEADER, HEADER + "x,1,1,,,east,,\n"])
def test_a_file_that_is_no_catalogue_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        read_table(text, "cloud.csv")


def test_the_pool_leaves_out_what_another_type_makes_pointless(tmp_path: Path) -> None:
    provider = make(tmp_path)
    assert isinstance(provider, Provider)
    assert [p.cu_id for p in provider.pool().profiles] == [
        "cloud/east/big",
        "cloud/east/small",
        "cloud/east/small/spot",
        "cloud/west/gpu",
    ]
    spot = provider.pool().profiles[2]
    assert spot.interruption_millis_per_hour == 50
    assert spot.egress_microusd_per_gb == 0
    paid = make(tmp_path, egress_usd_per_gb=0.09).pool().profiles
    assert {each.egress_microusd_per_gb for each in paid} == {90_000}
    assert spot.memory_bytes == 4 * GIB * 930 // 1000


def test_its_bids_are_sound_and_large_enough(tmp_path: Path) -> None:
    provider = make(tmp_path)
    asked = [request(3000, GIB), request(1000, GIB, "A100-80GB")]
    found = collect_bids([provider], asked, now=NOW, deadline_seconds=60)
    assert not found.problems
    assert [bid.bid_id for bid in found.bids] == ["cloud/east/big", "cloud/west/gpu"]
    assert all(bid.quantity == 16 for bid in found.bids)


def test_without_a_way_to_start_it_only_quotes(tmp_path: Path) -> None:
    provider = make(tmp_path)
    assert provider.capabilities.quotes_only
    started = make(tmp_path, start={"kind": "local"})
    assert not started.capabilities.quotes_only
    assert started.capabilities.relay


def test_old_prices_are_said_to_be_old(tmp_path: Path) -> None:
    path = write(tmp_path)
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    provider = CatalogProvider.from_config("cloud", {"file": str(path)})
    assert "OLD" not in provider.notice(NOW + timedelta(days=30))
    assert provider.notice(NOW + timedelta(days=31)).startswith(
        "prices of 2026-11-24 from cloud.csv, 31 days old; OLD"
    )


def test_an_import_is_kept_with_its_date_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    first = import_catalog(folder, write(tmp_path), "cloud", now=NOW, as_of=NOW - timedelta(days=9))
    assert (first.as_of, first.imported_at) == (NOW - timedelta(days=9), NOW)
    with pytest.raises(InvalidInputError):
        import_catalog(folder, write(tmp_path, "nonsense"), "cloud", now=NOW)
    assert open_catalog(folder, "cloud") == first
    second = import_catalog(folder, write(tmp_path, HEADER + "x,1,1,,,e,1,\n"), "cloud", now=NOW)
    assert len(second.rows) == 1
    assert len(list(folder.glob("*.csv"))) == 1
    assert list_catalogs(folder) == ["cloud"]


def test_a_kept_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    import_catalog(tmp_path / "kept", write(tmp_path), "cloud", now=NOW)
    next((tmp_path / "kept").glob("*.csv")).write_text(GOOD.replace("0.10", "0.01"))
    with pytest.raises(InvalidInputError, match="changed since its import"):
        open_catalog(tmp_path / "kept", "cloud")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "neither a catalogue nor a file"),
        ({"file": "a", "catalog": "b"}, "both are named"),
        ({"file": "/nowhere.csv"}, "No such file"),
        ({"file": "a", "region": ["x"]}, "did you mean 'regions'"),
        ({"file": "a", "quantity": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        CatalogProvider.from_config("cloud", options)


def test_patterns_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is left"):
        make(tmp_path, regions=["mars-*"])


def test_the_commands_import_list_and_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    run = CliRunner()
    file = str(write(tmp_path))
    done = run.invoke(app, ["catalog", "import", file, "--as-of", "2026-07-01", "--json"])
    assert done.exit_code == 0, done.output
    assert '"as_of": "2026-07-01T00:00:00+00:00"' in done.output
    assert run.invoke(app, ["catalog", "list"]).exit_code == 0
    assert run.invoke(app, ["catalog", "import", file, "--as-of", "soon"]).exit_code == 2
    provider = load_providers({"aws": {"kind": "catalog", "catalog": "cloud"}})[0]
    assert len(provider.pool().profiles) == 4


def test_the_commands_tell_what_was_merged_and_what_was_left_out(tmp_path: Path) -> None:
    file, home = str(write(tmp_path, ZONES, "vms.csv")), ["--home", str(tmp_path)]
    run = CliRunner()
    done = run.invoke(app, ["catalog", "import", file, "--name", "gcp", *home])
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "Imported 3 rows of vms.csv" in told
    assert "2 more are further zones" in told
    assert "2 no instance type: accelerators that are priced apart from machines" in told
    assert "2 no price" in told
    imported = json.loads(run.invoke(app, ["catalog", "import", file, *home, "--json"]).stdout)
    assert (imported["rows"], imported["zone_rows"]) == (3, 2)
    assert [(each["reason"], each["rows"]) for each in imported["left_out"]] == [
        ("priced_apart", 2),
        ("unpriced", 2),
    ]
    listed = json.loads(run.invoke(app, ["catalog", "list", *home, "--json"]).stdout)
    assert [each["left_out"] for each in listed["catalogs"]] == [imported["left_out"]] * 2
    assert "left out" in run.invoke(app, ["catalog", "list", *home]).output


def test_a_provider_offers_a_merged_type_once_in_each_region(tmp_path: Path) -> None:
    profiles = make(tmp_path, ZONES).pool().profiles
    assert make(tmp_path, ZONES, architectures=["x86_64"]).pool().profiles == profiles
    priced = {each.cu_id: each.price_microusd_per_hour for each in profiles}
    assert priced == {
        "cloud/eu-west-1/m6i.large": 107_000,
        "cloud/us-east-1/m6i.large": 96_000,
        "cloud/us-east-1/spot-only/spot": 20_000,
    }


sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))


@given(st.lists(sizes, min_size=1, max_size=12))
def test_whatever_is_left_out_somebody_left_serves_for_no_more(
    drawn: list[tuple[int, int, int]],
) -> None:
    profiles = [
        CUProfile(
            cu_id=f"c/{k}",
            provider="c",
            location="here",
            capacity_id=f"c/{k}",
            cpu_millis=cpu,
            memory_bytes=memory,
            price_microusd_per_hour=price,
        )
        for k, (cpu, memory, price) in enumerate(drawn)
    ]
    kept = without_dominated(profiles)

    def dominates(a: CUProfile, b: CUProfile) -> bool:
        return b.size.fits_in(a.size) and a.price_microusd_per_hour <= b.price_microusd_per_hour

    assert all(any(dominates(each, other) for each in kept) for other in profiles)
    assert not any(dominates(a, b) for a, b in itertools.permutations(kept, 2))


@pytest.mark.skipif("CU_MARKET_DATA" not in os.environ, reason="CU_MARKET_DATA is not set")
def test_the_shared_catalogues_are_readable() -> None:
    files = sorted((Path(os.environ["CU_MARKET_DATA"]) / "catalogs").glob("*.csv"))
    assert len(files) >= 7
    for file in files:
        provider = CatalogProvider.from_config("x", {"file": str(file)})
        assert provider.profiles
