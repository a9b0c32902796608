"""`cu-market explain`: an auction's report and what came of it, a run or one step of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.deployment import find_run, open_deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.homes import find_home
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.units import MICROUSD, format_bytes, format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cu_market.domain.auction import Auction
    from cu_market.ledger.interface import Ledger


_BESIDE = ("egress_usd", "expected_loss_usd")


def explain(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'last'.")
    ],
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="One step in detail.")] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", min=0, help="First wait for the run's end, at most so many seconds."
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell why each step of a run got the CU it got: asked, bids, winner, losers and why."""
    where = find_home(home)
    if wait is not None:
        from cu_market.cli.awaiting import await_run

        await_run(where, run, wait)
    with open_deployment(where) as deployment:
        run_id = find_run(deployment.ledger, run)
        document = explain_document(deployment.ledger, run_id, step)
    if as_json:
        write_json(document)
        return
    console = make_console()
    for shown in explain_tables(document):
        console.print(shown, markup=False)


def explain_document(ledger: Ledger, run_id: str, step_key: str | None) -> dict[str, Any]:
    """Returns a run's auctions, newest first, with its bill; of one step where it is named.

    Raises:
        NothingFoundError: the run was never auctioned, or has no such step.
    """
    from cu_market.market.bill import read_bill

    auctions = [_auction(auction) for auction in ledger.auctions(run_id)]
    bill = read_bill(ledger, run_id)
    lines = {line.name: line.to_record() for line in bill.by_step}
    if not auctions:
        raise NothingFoundError(f"run {run_id!r}: the ledger has no auction of it")
    if step_key is not None:
        auctions = _only(auctions, step_key, set(lines))
        billed = [lines[step_key]] if step_key in lines else []
        return {"run_id": run_id, "step": step_key, "auctions": auctions, "billed": billed}
    return {
        "run_id": run_id,
        "step": None,
        "auctions": auctions,
        "billed": list(lines.values()),
        "bill": bill.to_record(),
    }


def explain_tables(document: Mapping[str, Any]) -> list[RenderableType | str]:
    """Returns what a person reads: the verdict, then a table of steps, or one step in detail."""
    from cu_market.market.report import verdict

    shown: list[RenderableType | str] = []
    billed = {line["name"]: line for line in document["billed"]}
    for auction in document["auctions"]:
        held = f"{auction['held_at']}, by the {auction['place']}"
        if document["step"] is None:
            shown.append(f"{held}: {verdict(auction)}")
            shown.append(steps_table(auction["steps"], billed, "Per step"))
            shown.extend(f"refused: {problem}" for problem in auction["problems"])
            shown.extend(f"note: {note}" for note in auction.get("notes", ()))
        else:
            shown.append(f"Auction {auction['auction_id']}, {held}:")
            for step in auction["steps"]:
                shown.append(_step_table(step, auction["bids"]))
                shown.extend(sensitivity_lines(step))
    if document["step"] is not None:
        shown.extend(_billed(line) for line in document["billed"])
    elif document["bill"]["rentals"]:
        shown.append(rentals_table(document["bill"]["rentals"]))
    return shown


def rentals_table(lines: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns one row a CU that was rented whole: its bill, and what of that is on no step's."""
    rows = [
        (
            line["name"],
            f"{line['cpu_cores']:g} cores, {line['memory_gb']:.1f} GB",
            str(len(line["steps"])),
            f"{line['held_seconds']:.1f}",
            format_usd(line["cost_microusd"]),
            format_usd(round(line["rest_usd"] * MICROUSD)),
        )
        for line in lines
    ]
    columns = ("CU", "size", "steps", "seconds", "bill", "on no step's bill")
    return make_table("Rented whole and shared", columns, rows, right=columns[2:])


def steps_table(
    steps: Sequence[Mapping[str, Any]], billed: Mapping[str, Mapping[str, Any]], title: str
) -> RenderableType:
    """Returns one row a step: asked and why, winner, why the runner-up lost, use, cost.

    Mapped steps, which no auction saw by their own keys, follow the step that they come from.
    """
    rows: list[Sequence[str]] = []
    left = dict(billed)
    for step in steps:
        name = step["step"]
        rows.append(_step_row(step, left.pop(name, None), name))
        if name.endswith("[?]"):
            mapped = [key for key in left if key.startswith(name[:-2])]
            rows.extend(_step_row(step, left.pop(key), key) for key in mapped)
    columns = (
        "step",
        "asked (why)",
        "won by",
        "runner-up: why it lost",
        "peak mem.",
        "CPU s",
        "wall s",
        "cost",
    )
    return make_table(title, columns, rows, right=columns[4:])


def _step_row(step: Mapping[str, Any], line: Mapping[str, Any] | None, name: str) -> Sequence[str]:
    from cu_market.market.report import asked

    winner, loser = step["winner"], step["runner_up"]
    used = ("", "", "", "")
    where = winner["resource_id"] if winner else "nobody"
    if line is not None:
        peak = line["peak_memory_gb"]
        where = ", ".join(line["resource_ids"])
        attempts = f" ({line['attempts']} attempts)" if line["attempts"] > 1 else ""
        where += attempts
        used = (
            "" if peak is None else format_bytes(round(peak * 10**9)),
            f"{line['cpu_seconds']:.2f}",
            f"{line['wall_seconds']:.2f}",
            format_usd(line["cost_microusd"]),
        )
    lost = f"{loser['resource_id']}: {loser['detail']}" if loser else "nobody else bid"
    return (name, f"{asked(step)} ({step['reason']})", where, lost, *used)


def _step_table(step: Mapping[str, Any], bids: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns every bid for one step: the winner first, then who lost and why."""
    from cu_market.market.report import asked

    rows: list[Sequence[str]] = []
    winner = step["winner"]
    prices = {bid["cu_id"]: bid["performance_score"] for bid in bids}
    if winner is not None:
        begins, takes = winner["start_seconds"], winner["expected_seconds"]
        detail = f"starts after {begins:.1f} s, takes {takes:.1f} s{beside_lease(winner)}"
        total = format_usd(round(winner["total_cost_usd"] * MICROUSD))
        speed = f"{prices.get(winner['resource_id'], 1.0):.2f}"
        rows.append((winner["resource_id"], "won", detail, speed, total))
    for loss in step["losses"]:
        cost = loss["total_cost_usd"]
        total = "" if cost is None else format_usd(round(cost * MICROUSD))
        speed = f"{prices.get(loss['resource_id'], 1.0):.2f}"
        rows.append((loss["resource_id"], loss["reason"], loss["detail"], speed, total))
    title = f"{step['step']}: asked {asked(step)}: {step['reason']}"
    return make_table(
        title,
        ("CU", "verdict", "detail", "speed", "money and delay"),
        rows,
        right=("speed", "money and delay"),
    )


def beside_lease(winner: Mapping[str, Any]) -> str:
    """Returns what a winner costs beside its lease, in words; empty where nothing."""
    egress, loss = (round(winner.get(key, 0) * MICROUSD) for key in _BESIDE)
    said = []
    if egress or winner.get("transfer_seconds"):
        seconds = winner["transfer_seconds"]
        said.append(f"; its inputs are brought for {format_usd(egress)} in {seconds:.1f} s")
    if loss:
        said.append(f"; interruptions are expected to cost {format_usd(loss)}")
    return "".join(said)


def sensitivity_lines(step: Mapping[str, Any]) -> list[str]:
    """Returns what binds the step's award, and what more time or money would change."""
    if not step.get("binding"):
        return []
    lines = [f"What binds it: {step['binding']}."]
    lines += [f"More time: {step['more_time']}."] if step["more_time"] else []
    lines += [f"More money: {step['more_money']}."] if step["more_money"] else []
    return lines


def _billed(line: Mapping[str, Any]) -> str:
    peak = line["peak_memory_gb"]
    memory = (
        "memory was not measured" if peak is None else f"peak {format_bytes(round(peak * 1e9))}"
    )
    return (
        f"Billed {format_usd(line['cost_microusd'])} for {line['lease_seconds']:.2f} s on "
        f"{', '.join(line['resource_ids'])}: {line['attempts']} attempt(s), {memory}, "
        f"{line['cpu_seconds']:.2f} CPU-seconds, {line['wall_seconds']:.2f} s{_gpu(line)}; "
        f"{line['ending'] or 'no measurement'}."
    )


def _gpu(line: Mapping[str, Any]) -> str:
    if not line["gpu_scope"]:
        return ""
    busy = line["gpu_busy_seconds"]
    used = "" if busy is None else f" for {busy:.2f} GPU-seconds"
    memory = format_bytes(round(line["gpu_peak_memory_gb"] * 1e9))
    return f", {memory} of GPU memory{used} ({line['gpu_scope']})"


def _auction(auction: Auction) -> dict[str, Any]:
    return {
        "auction_id": auction.auction_id,
        "held_at": auction.held_at.isoformat(timespec="seconds"),
        "mode": auction.mode,
        "place": auction.place,
        **auction.report,
    }


def _only(
    auctions: Sequence[dict[str, Any]], step_key: str, billed: set[str]
) -> list[dict[str, Any]]:
    """Returns the auctions that had the step, or the mapped step's template, cut down to it."""
    from cu_market.domain.tags import nearest_name

    names = {step_key}
    if "[" in step_key:
        names.add(f"{step_key[: step_key.index('[')]}[?]")
    found = []
    for auction in auctions:
        steps = [step for step in auction["steps"] if step["step"] in names]
        if steps:
            found.append({**auction, "steps": steps})
    if not found:
        known = sorted({step["step"] for auction in auctions for step in auction["steps"]} | billed)
        near = nearest_name(step_key, known)
        hint = f"did you mean {near}? " if near else ""
        raise NothingFoundError(
            f"step {step_key!r}: the run has none; {hint}It has {', '.join(known)}"
        )
    return found
