import argparse
import asyncio
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from calls.models import Account
from webhooks.simulator.plan import PROVIDERS, RATE, plan
from webhooks.simulator.play import Player, ServerAway, Summary
from webhooks.simulator.scenario import SimulatedAccount

SECONDS_BETWEEN_LINES = 10


def number(low: float, high: float, *, whole: bool = False) -> Callable[[str], float]:
    """Return a reader of numbers from ``low`` to ``high``, which says so when it refuses one."""

    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise argparse.ArgumentTypeError(f"“{text}” is not {kind} from {low} to {high}.")
        return value

    return read


def http_url(text: str) -> str:
    """Return the address without its last slash."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise argparse.ArgumentTypeError(f"“{text}” is no address; write it as http://127.0.0.1:8000.")
    return text.rstrip("/")


class Command(BaseCommand):
    help = (
        "Plays realistic provider traffic over HTTP at a running server and prints a summary as one JSON object. "
        "Ctrl-C ends it at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", metavar="SLUG", help="only this account; all active ones when left out")
        parser.add_argument(
            "--calls", type=number(0, 1_000_000, whole=True), default=50, help="how many; 0: until stopped (50)"
        )
        parser.add_argument(
            "--rate", type=number(0.001, 1000), default=RATE, help=f"calls started per second, on average ({RATE})"
        )
        parser.add_argument(
            "--seed", type=number(0, 2**63, whole=True), help="the same seed plays the same calls; a random one"
        )
        parser.add_argument(
            "--speed",
            type=number(0.1, 1000),
            default=10,
            help="how many times shorter than in life calls are; 1: true to life, with CDRs sent again for half an "
            "hour (10)",
        )
        parser.add_argument("--url", type=http_url, default=settings.PUBLIC_URL, help="address of the server")

    def handle(self, **options) -> None:
        paths, accounts = self._accounts(options["account"])
        seed = secrets.randbelow(10**6) if options["seed"] is None else options["seed"]
        is_endless = not options["calls"]
        url = options["url"]
        requests = plan(
            accounts,
            seed=seed,
            calls=None if is_endless else options["calls"],
            start=datetime.now(UTC),
            rate=options["rate"],
            speed=options["speed"],
        )
        names = ", ".join(account.slug for account in accounts)
        self._say(f"Playing calls of {names} at {url}, seed {seed}. Ctrl-C stops.")
        with self._progress(options["calls"]) as moved:
            player = Player(url, paths, is_endless=is_endless, said=self._say, moved=moved)
            try:
                asyncio.run(player.play(requests))
            except ServerAway:
                raise CommandError(
                    f"The server at {url} takes no connection. Start it, or name another with --url."
                ) from None
        self.stdout.write(json.dumps(asdict(player.summary)))
        if player.summary.failed and not is_endless and not player.was_stopped:
            hint = ""
            if player.first_failure.endswith("404"):
                hint = ": it does not know the account's webhook URL, or does not take it from this address"
            raise CommandError(f"Requests failed, {player.summary.failed} in all. {player.first_failure}{hint}.")

    def _accounts(self, slug: str | None) -> tuple[dict[str, str], list[SimulatedAccount]]:
        """Return the webhook path of each account to simulate, and the accounts."""
        active = Account.objects.filter(is_active=True, provider__in=PROVIDERS)
        chosen = active.filter(slug=slug) if slug else active
        if not chosen:
            known = ", ".join(active.values_list("slug", flat=True)) or "none yet; add one with add_account"
            raise CommandError(f"There is no active account “{slug}”." * bool(slug) + f" Active accounts: {known}.")
        paths, accounts = {}, []
        for account in chosen:
            tokens = (endpoint.token for endpoint in account.endpoints.filter(retired_at=None))
            token = next(filter(None, tokens), None)
            if token is None:
                self._say(
                    f"{account.slug} is left out: its webhook URL cannot be shown, because its token was chosen by an "
                    "operator or made under another SECRET_KEY. Add a webhook URL to the account in the admin."
                )
                continue
            paths[account.slug] = f"/webhooks/{account.provider}/{token}/"
            accounts.append(SimulatedAccount(account.slug, account.provider, account.app_id, account.time_zone))
        if not accounts:
            raise CommandError("There is no account left to simulate.")
        return paths, accounts

    @contextmanager
    def _progress(self, calls: int) -> Iterator[Callable[[Summary], None]]:
        """Give what is to be called with the summary as it grows; an endless run shows no progress."""
        if not calls:
            yield lambda summary: None
        elif self._console.is_terminal:
            with Progress(
                *Progress.get_default_columns(), "{task.fields[requests]} requests", console=self._console
            ) as bar:
                task = bar.add_task("calls", total=calls, requests=0)
                yield lambda summary: bar.update(task, completed=summary.calls, requests=summary.requests)
        else:
            said_at = time.monotonic()

            def say_now_and_then(summary: Summary) -> None:
                nonlocal said_at
                if time.monotonic() - said_at > SECONDS_BETWEEN_LINES:
                    said_at = time.monotonic()
                    self._say(f"{summary.calls} of {calls} calls, {summary.requests} requests")

            yield say_now_and_then

    @cached_property
    def _console(self) -> Console:
        return Console(stderr=True)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
