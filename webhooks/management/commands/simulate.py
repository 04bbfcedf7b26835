import asyncio
import itertools
import json
import random
import signal
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from calls.models import Account
from webhooks.simulator.call import SimulatedAccount
from webhooks.simulator.plan import plan
from webhooks.simulator.play import ServerAway, Tally, play, wait_until_up


def count(text: str) -> int:
    """Return a whole number from 0 on."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ArgumentTypeError(f"“{text}” is not a whole number from 0 to 999999999.")
    return int(text)


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0.001 <= number <= 1000:
        raise ArgumentTypeError(f"“{text}” is not a number from 0.001 to 1000.")
    return number


def web_address(text: str) -> str:
    """Return an address such as http://127.0.0.1:8000, without a slash at the end."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ArgumentTypeError(f"“{text}” is not an address such as http://127.0.0.1:8000.")
    return text.rstrip("/")


class Command(BaseCommand):
    help = "Plays made-up provider traffic over HTTP at a running server, then prints what came of it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--account", metavar="SLUG", action="append", help="only this account; may be given again (default: all)"
        )
        parser.add_argument("--calls", metavar="N", type=count, default=50, help="0: until stopped (default: 50)")
        parser.add_argument(
            "--rate", metavar="R", type=positive, default=0.5, help="calls started in a second, mean of a day"
        )
        parser.add_argument("--seed", metavar="S", type=count, help="the same number makes the same calls again")
        parser.add_argument(
            "--speed", metavar="F", type=positive, default=1.0, help="makes each call so many times shorter than life"
        )
        parser.add_argument(
            "--url",
            type=web_address,
            default=f"http://127.0.0.1:{settings.PORT}",
            help="address of the server (default: %(default)s)",
        )

    def handle(self, **options) -> None:
        accounts, urls = self._accounts(options["account"], options["url"])
        seed = random.randrange(10**6) if options["seed"] is None else options["seed"]  # noqa: S311
        calls = f"{options['calls']} calls" if options["calls"] else "Calls without end (Ctrl-C stops)"
        self.stderr.write(f"{calls} for {', '.join(urls)} at {options['url']}, seed {seed}.")
        tally = Tally()
        try:
            with Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
            ) as progress:
                bar = progress.add_task("starting")
                asyncio.run(
                    _play(accounts, urls, seed, options, tally, lambda: progress.update(bar, description=str(tally)))
                )
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.stderr.write("Stopped.")
        except ServerAway as error:
            raise CommandError(
                f"No server answers at {options['url']} ({error}). Start one with “make run”, or name another by --url."
            ) from error
        self.stdout.write(json.dumps(tally.summary))
        if tally.refusals and not tally.accepted:
            raise CommandError(f"The server accepted nothing; it answered {_in_words(tally)}.")

    def _accounts(self, slugs: list[str] | None, url: str) -> tuple[list[SimulatedAccount], dict[str, str]]:
        """Return the accounts to play for, and the webhook URL of each. Raises ``CommandError`` when there is none."""
        known = {account.slug: account for account in Account.objects.filter(is_active=True)}
        if unknown := [slug for slug in slugs or [] if slug not in known]:
            raise CommandError(
                f"There is no active account “{unknown[0]}”. Active accounts: {', '.join(known) or 'none yet'}."
            )
        chosen, urls, mute = [], {}, []
        for account in map(known.get, slugs or known):
            tokens = [endpoint.token for endpoint in account.endpoints.filter(retired_at=None)]
            token = next(filter(None, tokens), None)
            if token is None:
                mute.append(account.slug)
                continue
            chosen.append(SimulatedAccount(account.slug, account.provider, account.app_id, account.time_zone))
            urls[account.slug] = f"{url}/webhooks/{account.provider}/{token}/"
        if mute:
            advice = "it was chosen by the operator or made under another SECRET_KEY. Add a webhook URL in the admin."
            message = f"The token of {', '.join(mute)} cannot be shown: {advice}"
            if slugs or not chosen:
                raise CommandError(message)
            self.stderr.write(self.style.WARNING(f"Left out. {message}"))
        if not chosen:
            raise CommandError("There is no active account yet. Add one with “manage.py add_account”.")
        return chosen, urls


async def _play(
    accounts: list[SimulatedAccount],
    urls: dict[str, str],
    seed: int,
    options: dict[str, Any],
    tally: Tally,
    on_sent: Callable[[], None],
) -> None:
    """Play one plan; without end, start another one whenever the server was away, for that one's times are over.

    SIGTERM cancels it, as Ctrl-C does.
    """
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    for restarts in itertools.count():
        if not options["calls"]:
            await wait_until_up(options["url"])
        requests = plan(
            accounts,
            seed + restarts,
            options["calls"],
            datetime.now(UTC),
            rate=options["rate"],
            speed=options["speed"],
        )
        try:
            await play(requests, urls, tally, on_sent=on_sent)
        except ServerAway:
            if options["calls"]:
                raise
        else:
            return


def _in_words(tally: Tally) -> str:
    return ", ".join(f"{status or 'nothing'} ({times} times)" for status, times in sorted(tally.refusals.items()))
