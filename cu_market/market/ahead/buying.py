"""Which CUs to start ahead of steps that are expected, which to keep, and which to let go.

Pure: what is expected, what stands and what there is room for come in, a plan goes out. What was
bought for a launch is kept until that is overdue by as long as its standing by would cost what its
use would save; for another launch, only where standing by until then costs less than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cu_market.domain.purchase import OPEN, STANDING, Purchase
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MS_PER_HOUR, format_usd, lease_cost_microusd
from cu_market.market.ahead.newsvendor import Terms, plan_purchase

LEAST_PATIENCE = timedelta(seconds=30)
"""A schedule's tick and a queue are looked at every few seconds: so late may any launch be."""

MOST_PATIENCE = timedelta(minutes=10)

NO_CEILINGS: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A CU that a launch is expected to ask for, as a tentative auction awarded it.

    Attributes:
        want_id: the same whenever the same launch and step are planned; a purchase has it for id.
        code_location, job, step_key, account: whose.
        source: ``schedule`` or ``queue``.
        expected_at: when the launch is expected, aware UTC.
        fit: what a worker must be to serve it; see Foresighted.
        provider, resource_id, capacity_id, size, price_microusd_per_hour: as awarded.
        value_of_time_microusd_per_hour: of its run.
        startups_ms: of that CU as measured, at least one.
        lags_ms, minimum_ms: see plan_purchase.
        probability_permille: that it is used, where one is bought.
    """

    want_id: str
    code_location: str
    job: str
    step_key: str
    account: str
    source: str
    expected_at: datetime
    fit: str
    provider: str
    resource_id: str
    capacity_id: str
    size: ResourceVector
    price_microusd_per_hour: int
    value_of_time_microusd_per_hour: int
    startups_ms: tuple[int, ...]
    lags_ms: tuple[int, ...] = (0,)
    minimum_ms: int = 0
    probability_permille: int = 1000

    @property
    def words(self) -> str:
        """The launch in words."""
        if self.source == "queue":
            return f"a run of {self.job} waits to start"
        return f"{self.job} is scheduled at {self.expected_at:%H:%M:%S} UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buy:
    """A purchase to be made now.

    Attributes:
        want: for whom.
        terms: when and why.
        expires_at: until when it stands by.
    """

    want: Want
    terms: Terms
    expires_at: datetime


def purchase_of(buy: Buy, *, buyer: str, now: datetime) -> Purchase:
    """Returns the purchase as it is to be written, bought now by that process."""
    want = buy.want
    return Purchase(
        purchase_id=want.want_id,
        provider=want.provider,
        resource_id=want.resource_id,
        capacity_id=want.capacity_id,
        size=want.size,
        price_microusd_per_hour=want.price_microusd_per_hour,
        minimum_ms=want.minimum_ms,
        code_location=want.code_location,
        job=want.job,
        step_key=want.step_key,
        source=want.source,
        account=want.account,
        fit=want.fit,
        expected_at=want.expected_at,
        waiting_saved_microusd=buy.terms.waiting_saved_microusd,
        holding_microusd=buy.terms.holding_microusd,
        reason=buy.terms.reason,
        buyer=buyer,
        started_at=now,
        expires_at=buy.expires_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What is to be done now.

    Attributes:
        buys: to be started.
        extends: open purchases that stand by for a later launch, with until when.
        releases: open purchases to be let go, with why.
        declined: wants that nothing is bought for, by want_id, with why.
        next_at: when the next purchase will be due, or None.
    """

    buys: tuple[Buy, ...] = ()
    extends: tuple[tuple[Purchase, datetime], ...] = ()
    releases: tuple[tuple[Purchase, str], ...] = ()
    declined: Mapping[str, str]
    next_at: datetime | None = None


def plan_ahead(
    wants: Sequence[Want],
    bought: Sequence[Purchase],
    *,
    now: datetime,
    free: Mapping[str, ResourceVector],
    most: int,
    money: Mapping[str, int] = NO_CEILINGS,
) -> Ahead:
    """Returns what is bought, kept for another launch, and let go.

    Args:
        wants: what launches are expected to ask for.
        bought: purchases that stand, and those that have ended: none is made twice.
        now: the present.
        free: what each capacity has left beside leases and all that stands.
        most: purchases that may stand at once.
        money: what each account may still spend, micro-dollars, what stands paid until now;
            accounts without a ceiling are left out.
    """
    standing = [each for each in bought if each.state in STANDING]
    is_open = [each for each in standing if each.state in OPEN]
    beyond = [each for each in is_open if money.get(each.account, 1) <= 0]
    unassigned = sorted(
        (each for each in is_open if each not in beyond), key=lambda each: each.started_at
    )
    known = {each.purchase_id for each in bought}
    extends: list[tuple[Purchase, datetime]] = []
    releases = [(each, f"the ceiling of account {each.account!r} is reached") for each in beyond]
    left: list[Want] = []
    # Its own launch's purchase first: only what is over goes to another's.
    for want in sorted(wants, key=lambda w: (w.expected_at, w.want_id)):
        own = next((each for each in unassigned if each.purchase_id == want.want_id), None)
        if own is not None:
            unassigned.remove(own)
        else:
            left.append(want)
    for want in list(left):
        found = next((each for each in unassigned if _serves(each, want)), None)
        if found is None or want.want_id in known:
            continue
        until = _kept_until(found, want, now)
        if until is None:
            continue
        unassigned.remove(found)
        left.remove(want)
        if until > found.expires_at:
            extends.append((found, until))
    for each in unassigned:
        why = _why_let_go(each, now)
        if why is not None:
            releases.append((each, why))
    room = dict(free)
    for each, _ in releases:
        room[each.capacity_id] = room.get(each.capacity_id, ResourceVector()) + each.size
    gone = {each.purchase_id for each, _ in releases}
    buys, declined, next_at = _buys(
        [want for want in left if want.want_id not in known],
        now=now,
        room=room,
        money=_unpromised(money, (p for p in is_open if p.purchase_id not in gone), extends, now),
        places=most - len(standing) + len(releases),
    )
    return Ahead(
        buys=tuple(buys),
        extends=tuple(extends),
        releases=tuple(releases),
        declined=declined,
        next_at=next_at,
    )


def _unpromised(
    money: Mapping[str, int],
    kept: Iterable[Purchase],
    extends: Iterable[tuple[Purchase, datetime]],
    now: datetime,
) -> dict[str, int]:
    """Returns what is left of each account's money if all that is kept stands by to its end."""
    left = dict(money)
    until = {each.purchase_id: end for each, end in extends}
    for each in kept:
        if each.account in left:
            end = until.get(each.purchase_id, each.expires_at)
            left[each.account] -= each.cost_until(max(now, end)) - each.cost_until(now)
    return left


def _buys(
    wants: Sequence[Want],
    *,
    now: datetime,
    room: dict[str, ResourceVector],
    money: dict[str, int],
    places: int,
) -> tuple[list[Buy], dict[str, str], datetime | None]:
    buys: list[Buy] = []
    declined: dict[str, str] = {}
    next_at: datetime | None = None
    for want in wants:
        terms = _terms(want)
        if terms is None:
            declined[want.want_id] = "standing ready would cost more than the waiting is worth"
            continue
        due = want.expected_at - timedelta(milliseconds=terms.lead_ms)
        if due > now:
            next_at = due if next_at is None else min(next_at, due)
            continue
        left = room.get(want.capacity_id, ResourceVector())
        expires_at = _expiry(want, terms)
        costs = _standing_by_microusd(want, expires_at - now)
        if not want.size.fits_in(left):
            declined[want.want_id] = f"{want.capacity_id} has no room"
        elif money.get(want.account, costs) < costs:
            declined[want.want_id] = (
                f"standing by may cost {format_usd(costs)}, more than the ceiling of account "
                f"{want.account!r} leaves"
            )
        elif len(buys) >= places:
            declined[want.want_id] = "as many stand by as may at once"
        else:
            room[want.capacity_id] = left.minus(want.size)
            if want.account in money:
                money[want.account] -= costs
            buys.append(Buy(want=want, terms=terms, expires_at=expires_at))
    return buys, declined, next_at


def _terms(want: Want) -> Terms | None:
    """Returns the purchase for a want, its reason complete, or None where it is not worth it."""
    terms = plan_purchase(
        want.startups_ms,
        price_microusd_per_hour=want.price_microusd_per_hour,
        value_of_time_microusd_per_hour=want.value_of_time_microusd_per_hour,
        probability_permille=want.probability_permille,
        lags_ms=want.lags_ms,
        patience_ms=LEAST_PATIENCE // timedelta(milliseconds=1),
        minimum_ms=want.minimum_ms,
    )
    if terms is None:
        return None
    price = format_usd(want.price_microusd_per_hour)
    words = f"{want.words}; {want.step_key} would be awarded {want.resource_id} at {price} an hour"
    return replace(terms, reason=f"{words}; {terms.reason}")


def _standing_by_microusd(want: Want, time: timedelta) -> int:
    return lease_cost_microusd(want.price_microusd_per_hour, time // timedelta(milliseconds=1))


def _expiry(want: Want, terms: Terms) -> datetime:
    late = timedelta(milliseconds=max(0, *want.lags_ms))
    return (
        want.expected_at
        + late
        + _patience(terms.waiting_saved_microusd, want.price_microusd_per_hour)
    )


def _patience(worth_microusd: int, price_microusd_per_hour: int) -> timedelta:
    """Returns for how long standing by costs at most so much, within bounds."""
    if price_microusd_per_hour == 0:
        return MOST_PATIENCE
    lasts = timedelta(milliseconds=worth_microusd * MS_PER_HOUR // price_microusd_per_hour)
    return min(MOST_PATIENCE, max(LEAST_PATIENCE, lasts))


def _serves(each: Purchase, want: Want) -> bool:
    """Whether it may serve the want: what it is called in a price list is no matter."""
    is_alike = (each.provider, each.fit) == (want.provider, want.fit)
    return is_alike and want.size.fits_in(each.size)


def _kept_until(each: Purchase, want: Want, now: datetime) -> datetime | None:
    """Returns until when a purchase stands by for another launch than its own; None: it is dearer
    than what it saves.

    A run that waits now is what the purchase was for, most likely: that is no reason to keep it for
    longer, or a run that is never let start would keep it for ever.
    """
    if now >= each.expires_at:
        return None
    if want.expected_at <= max(now, each.expected_at):
        return each.expires_at
    # All of its standing counts, or one that nobody uses would be kept from tick to tick for ever.
    stands_ms = (want.expected_at - each.started_at) // timedelta(milliseconds=1)
    costs = stands_ms * each.price_microusd_per_hour // MS_PER_HOUR
    worth = sum(want.startups_ms) // len(want.startups_ms)
    worth = worth * want.value_of_time_microusd_per_hour // MS_PER_HOUR
    if costs >= worth * want.probability_permille // 1000:
        return None
    late = timedelta(milliseconds=max(0, *want.lags_ms))
    return want.expected_at + late + LEAST_PATIENCE


def _why_let_go(each: Purchase, now: datetime) -> str | None:
    if now >= each.expires_at:
        late = (now - each.expected_at).total_seconds()
        return f"nobody came within {late:.0f} s of the expected launch"
    if now < each.expected_at:
        return "its launch is expected no more"
    return None
