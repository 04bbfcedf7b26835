"""Sending messages: at least once, in the order of what they are about, and so that no receiver delays another.

A subscription is leased to one worker at a time, which sends to many receivers at once: posting is done by threads,
which never touch the database; everything else by the worker's own. A receiver gets a few messages at a time. Those
that are failing, slow, or not heard of yet share half of the threads, so that they can hold up each other only.

A message keeps its id and its bytes. So nothing is lost by a kill, and a copy, which a kill between the receiver's
answer and our note of it makes, can be told by its id.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from random import SystemRandom
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from calls import outgoing, signing
from calls.addresses import AddressRefused, check_outgoing
from calls.models import Attempt, Message, Subscription
from calls.sealing import SealBroken
from calls.subscriptions.reach import reach, running

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
"""For so long a subscription is one worker's; longer than a post may take. It is prolonged while there is work."""
TURN = timedelta(seconds=20)
"""A turn takes up nothing new after this, except for quick receivers while it waits for the slow ones."""
LONGEST_TURN = timedelta(seconds=40)
"""Nothing at all is begun after this: with the time that a post may take it is below the time limit of a task."""
THREADS = 64
MOST_SLOW = THREADS // 2
"""How many threads may be taken by receivers that are not known to be quick."""
AT_ONCE = 4
"""How many messages one receiver gets at a time."""
QUICK_MILLISECONDS = 1000
"""A receiver whose last answer took longer is a slow one."""
LOOK_SECONDS = 0.25
"""How often it is looked whether another subscription has something to send."""
BATCH = 20
"""How many messages of a subscription are read at a time."""

TRIED_FOR = timedelta(hours=24)
"""A message that did not get through in this time, counted from its first attempt, has failed."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(hours=2)
LONGEST_REST = timedelta(minutes=1)
"""How long at most a failing receiver is left alone between two attempts of whatever message."""
LONGEST_ASKED_REST = timedelta(hours=1)
"""The same, where the receiver itself asks for it by Retry-After."""
OUTAGE = timedelta(minutes=5)
"""A receiver that is back after it failed for longer gets at once what has waited."""
FAILING_FOR = timedelta(days=5)
"""A subscription of which nothing got through for so long is disabled."""
ANSWER_BYTES = 2048
"""How much of an answer is kept."""
_LONGEST_ERROR = 500
_TOO_MUCH = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class Order(NamedTuple):
    """All that a thread needs to send a message."""

    message_pk: int
    message_id: UUID
    body: bytes
    url: str
    secrets: Sequence[str]


class Outcome(NamedTuple):
    """What came of an attempt."""

    order: Order
    started_at: datetime
    milliseconds: int
    headers: dict[str, str]
    status: int | None
    error: str
    """Empty: it was delivered."""
    answer: str = ""
    asked_rest: timedelta = timedelta(0)
    """How long the receiver asked to be left alone."""

    @property
    def is_overloaded(self) -> bool:
        """Whether the receiver, rather than this message, is the reason why it failed."""
        return self.status is None or self.status >= 500 or self.status in _TOO_MUCH


@dataclass
class _Held:
    """A subscription that is ours for now."""

    subscription: Subscription
    lease: datetime
    waiting: deque[Message] = field(default_factory=deque)
    in_flight: set[int] = field(default_factory=set)

    @property
    def is_well(self) -> bool:
        """Whether its last answer, if there was one, was a good one."""
        return self.subscription.failing_since is None and self.subscription.last_milliseconds is not None

    @property
    def is_quick(self) -> bool:
        return self.is_well and (self.subscription.last_milliseconds or 0) <= QUICK_MILLISECONDS

    @property
    def room(self) -> int:
        return (AT_ONCE if self.is_well else 1) - len(self.in_flight)


def is_waiting() -> bool:
    """Return whether some subscription has something to send and nobody is sending to it."""
    return bool(_free(timezone.now()))


def send() -> int:
    """Send what is due, for one turn, on the subscriptions that nobody else is at; return how many were delivered."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sender")
    try:
        return _Turn(pool).run()
    finally:
        # A thread ends by itself within the time that a post may take; there is nothing to wait for after an error.
        pool.shutdown(wait=False, cancel_futures=True)


def try_once(message: Message) -> Attempt:
    """Send ``message`` here and now, note what came of it, and return that; it is not tried again."""
    outcome = _try(message.subscription, message)
    state = Message.State.FAILED if outcome.error else Message.State.DELIVERED
    with transaction.atomic():
        Message.objects.filter(pk=message.pk).update(
            state=state, attempts_made=1, first_attempt_at=outcome.started_at, last_error=outcome.error,
            delivered_at=None if outcome.error else timezone.now(),
        )  # fmt: skip
        attempt = _attempt(outcome)
        attempt.save()
    return attempt


class _Turn:
    """One turn of one worker."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._began = self._looked_at = timezone.now()
        self._held: dict[int, _Held] = {}
        self._futures: dict[Future[Outcome], int] = {}
        self._delivered = 0

    def run(self) -> int:
        """Send until nothing is due or the turn is over."""
        while True:
            self._take()
            self._begin()
            if not self._futures:
                break
            # Now and then without an answer too: another receiver may have got something to be told.
            done, _ = wait(self._futures, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            self._note(done)
        # After an error they are left to their leases: threads may still be posting.
        for held in self._held.values():
            _release(held)
        return self._delivered

    @property
    def _is_over(self) -> bool:
        return timezone.now() - self._began > TURN

    @property
    def _may_begin(self) -> bool:
        if not self._is_over:
            return True
        is_waiting_for_slow = any(held.in_flight and not held.is_quick for held in self._held.values())
        return is_waiting_for_slow and timezone.now() - self._began < LONGEST_TURN

    def _take(self) -> None:
        """Lease the subscriptions that have something to send; prolong those at work; let go of those with nothing."""
        now = timezone.now()
        is_time = not self._futures or now - self._looked_at > timedelta(seconds=LOOK_SECONDS)
        if is_time and self._may_begin:
            self._looked_at = now
            is_quick = Q(failing_since=None, last_milliseconds__lte=QUICK_MILLISECONDS)
            for pk in _free(now, ~Q(pk__in=self._held), is_quick if self._is_over else Q()):
                lease = _claim(pk, _is_free(now))
                if lease and (subscription := _subscription(pk)):
                    self._held[pk] = _Held(subscription, lease)
        for pk, held in list(self._held.items()):
            if not self._refill(held) and not held.in_flight:
                _release(held)
                del self._held[pk]
            elif held.lease - now < LEASE / 2:
                self._prolong(held)

    def _refill(self, held: _Held) -> bool:
        """Read what is to be sent next where nothing is left, unless the turn is over; return whether there is any."""
        if held.waiting:
            return True
        if not self._may_begin or (self._is_over and not held.is_quick) or held.room < 1 or not self._prolong(held):
            return False
        rows = _sendable(held.subscription.pk, timezone.now()).exclude(pk__in=held.in_flight)
        found = list(rows[:BATCH])
        seen = reach(held.subscription)
        hidden = [one.pk for one in found if one.account_id and not seen.holds(one.account_id, ())]
        if hidden:
            Message.objects.filter(pk__in=hidden, state=Message.State.PENDING).update(
                state=Message.State.CANCELLED, last_error="The subscription is not told of this account any more."
            )
        held.waiting.extend(one for one in found if one.pk not in hidden)
        return bool(found)

    def _prolong(self, held: _Held) -> bool:
        """Keep the subscription, and see what has become of it; return whether it is ours and still to be sent to."""
        lease = _claim(held.subscription.pk, Q(lease_until=held.lease))
        subscription = _subscription(held.subscription.pk) if lease else None
        if lease and subscription:
            held.lease, held.subscription = lease, subscription
            if not subscription.resume_at or subscription.resume_at <= timezone.now():
                return True
        held.waiting.clear()
        return False

    def _begin(self) -> None:
        """Hand messages to threads: one to each receiver in turn, as long as there is room."""
        if not self._may_begin:
            return
        has_begun = True
        while has_begun and len(self._futures) < THREADS:
            has_begun = False
            slow = sum(len(held.in_flight) for held in self._held.values() if not held.is_quick)
            for pk, held in self._held.items():
                if not held.is_quick and (self._is_over or slow >= MOST_SLOW):
                    continue
                if held.waiting and held.room > 0 and len(self._futures) < THREADS:
                    message = held.waiting.popleft()
                    future = self._pool.submit(_try, held.subscription, message)
                    self._futures[future] = pk
                    held.in_flight.add(message.pk)
                    slow += not held.is_quick
                    has_begun = True

    def _note(self, done: Iterable[Future[Outcome]]) -> None:
        """Write down what came of attempts."""
        by_subscription: dict[int, list[Outcome]] = {}
        for future in done:
            by_subscription.setdefault(self._futures.pop(future), []).append(future.result())
        for pk, outcomes in by_subscription.items():
            held = self._held[pk]
            with suppress(IntegrityError):  # it is just being deleted
                self._delivered += _note(held.subscription, outcomes)
            held.in_flight -= {outcome.order.message_pk for outcome in outcomes}
            if any(outcome.error for outcome in outcomes):
                held.waiting.clear()


def post(order: Order) -> Outcome:
    """Send a message as a thread does, and return what came of it, whatever that is."""
    started_at, began = timezone.now(), time.monotonic()
    headers: dict[str, str] = {}
    status, answer, rest = None, "", timedelta(0)
    try:
        target = check_outgoing(order.url, allowed=settings.ALLOWED_PRIVATE_TARGETS)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Ringledger",
            **signing.headers(order.message_id, started_at.astimezone(UTC), order.body, order.secrets),
        }
        reply = outgoing.post(target, order.body, headers, most_bytes=ANSWER_BYTES)
    except AddressRefused as refused:
        error = str(refused)
    except outgoing.Failure as failure:
        error = f"{target.host} could not be reached or did not answer ({type(failure).__name__})."
    else:
        status = reply.status
        seconds_asked = reply.headers.get("retry-after", "")
        if seconds_asked.isdecimal():  # the other form, a date, is rare
            rest = min(timedelta(seconds=int(seconds_asked[:9])), LONGEST_ASKED_REST)
        # The database takes no zero bytes.
        answer = reply.beginning.decode("utf-8", "replace").replace("\0", "\ufffd")
        is_good = HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES
        error = "" if is_good else f"{target.host} answered {status}. An answer of 200 to 299 is taken for received."
    milliseconds = round((time.monotonic() - began) * 1000)
    return Outcome(order, started_at, milliseconds, headers, status, error[:_LONGEST_ERROR], answer, rest)


def pause_after(attempts: int) -> timedelta:
    """Return how long to wait after so many failed attempts: 5 seconds, then 4 times as long each time, up to 2 hours.

    A little mixed, so that what failed together does not come back together.
    """
    pause: timedelta = min(FIRST_PAUSE * 4 ** min(attempts - 1, 10), LONGEST_PAUSE)
    return pause * SystemRandom().uniform(0.8, 1.2)


def rest_after(failures: int) -> timedelta:
    """Return how long a receiver is left alone after so many failed attempts in a row: a second, doubled, mixed."""
    return min(timedelta(seconds=2 ** min(failures - 1, 10)), LONGEST_REST) * SystemRandom().uniform(0.8, 1.2)


def _is_free(now: datetime) -> Q:
    return Q(lease_until=None) | Q(lease_until__lt=now)


def _free(now: datetime, *conditions: Q) -> list[int]:
    """Return the ids of the subscriptions that have something to send and that nobody is sending to."""
    due = Message.objects.filter(subscription=OuterRef("pk"), state=Message.State.PENDING, next_attempt_at__lte=now)
    is_rested = Q(resume_at=None) | Q(resume_at__lte=now)
    rows = running().filter(_is_free(now), is_rested, Exists(due), *conditions, state=Subscription.State.ACTIVE)
    # Asked one by one: in a single query the database would first compare all messages of all subscriptions.
    return [pk for pk in rows.order_by("pk").values_list("pk", flat=True) if _sendable(pk, now)[:1]]


def _sendable(subscription_id: int, now: datetime) -> QuerySet[Message]:
    """Return the messages that are due and wait for no earlier one about the same thing, the first first."""
    pending = Message.objects.filter(subscription=subscription_id, state=Message.State.PENDING).order_by()
    earlier = pending.filter(about=OuterRef("about"), id__lt=OuterRef("id")).exclude(about="")
    # In the order of an index, or for the first one the database would read the table in the order of its rows.
    return pending.filter(~Exists(earlier), next_attempt_at__lte=now).order_by("next_attempt_at", "id")


def _claim(pk: int, is_ours: Q) -> datetime | None:
    lease = timezone.now() + LEASE
    # The database looks at the row again under its lock: of many who come at once this hits it for one.
    rows = Subscription.objects.filter(is_ours, pk=pk, state=Subscription.State.ACTIVE)
    return lease if rows.update(lease_until=lease) else None


def _subscription(pk: int) -> Subscription | None:
    """Return the subscription with its key, unless it is gone or its key has no say any more."""
    return running().select_related("api_key").filter(pk=pk).first()


def _release(held: _Held) -> None:
    Subscription.objects.filter(pk=held.subscription.pk, lease_until=held.lease).update(lease_until=None)


def _order(subscription: Subscription, message: Message) -> Order:
    return Order(message.pk, message.message_id, bytes(message.body), subscription.url, subscription.secrets)


def _try(subscription: Subscription, message: Message) -> Outcome:
    """Run in a thread. A bug of ours must not stop other receivers, nor be tried without a pause."""
    try:
        return post(_order(subscription, message))
    except SealBroken as error:
        text = str(error)
    except Exception as error:
        logger.exception("Message %s could not be sent.", message.message_id)
        text = f"It could not be sent because of an error in Ringledger ({type(error).__name__})."
    order = Order(message.pk, message.message_id, bytes(message.body), subscription.url, ())
    return Outcome(order, timezone.now(), 0, {}, None, text)


def _attempt(outcome: Outcome) -> Attempt:
    return Attempt(
        message_id=outcome.order.message_pk,
        started_at=outcome.started_at,
        milliseconds=outcome.milliseconds,
        request_headers=outcome.headers,
        status=outcome.status,
        error=outcome.error,
        answer=outcome.answer,
    )


@transaction.atomic
def _note(subscription: Subscription, outcomes: Sequence[Outcome]) -> int:
    """Write down the attempts to one receiver, and what follows from them; return how many messages were delivered."""
    row = Subscription.objects.select_for_update(no_key=True).filter(pk=subscription.pk).first()
    if row is None:  # it was deleted, and its messages with it
        return 0
    now = timezone.now()
    messages = Message.objects.in_bulk([outcome.order.message_pk for outcome in outcomes])
    kept = [outcome for outcome in outcomes if outcome.order.message_pk in messages]
    Attempt.objects.bulk_create([_attempt(outcome) for outcome in kept])
    delivered = [outcome.order.message_pk for outcome in kept if not outcome.error]
    Message.objects.filter(pk__in=delivered).update(
        state=Message.State.DELIVERED, delivered_at=now, last_error="", attempts_made=F("attempts_made") + 1
    )
    for outcome in kept:
        if outcome.error:
            _note_failure(messages[outcome.order.message_pk], outcome, now)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.started_at):
        _follow(row, outcome, now)
    row.save(
        update_fields=[
            *("failing_since", "failures", "last_error", "last_success_at", "last_milliseconds", "resume_at"),
            *("state", "state_reason", "state_changed_at", "is_disabling_told"),
        ]
    )
    for name in ("failing_since", "last_milliseconds", "resume_at"):
        setattr(subscription, name, getattr(row, name))
    return len(delivered)


def _note_failure(message: Message, outcome: Outcome, now: datetime) -> None:
    attempts = message.attempts_made + 1
    begun = message.first_attempt_at or outcome.started_at
    again_at = now + pause_after(attempts)
    is_given_up = again_at > begun + TRIED_FOR
    # Unless it was settled otherwise meanwhile.
    Message.objects.filter(pk=message.pk, state=Message.State.PENDING).update(
        state=Message.State.FAILED if is_given_up else Message.State.PENDING,
        first_attempt_at=begun,
        attempts_made=attempts,
        next_attempt_at=again_at,
        last_error=outcome.error,
    )


def _follow(row: Subscription, outcome: Outcome, now: datetime) -> None:
    """Change ``row``, which the caller saves, by what came of an attempt."""
    row.last_milliseconds = outcome.milliseconds
    if not outcome.error:
        if row.failing_since and now - row.failing_since >= OUTAGE:
            row.messages.filter(state=Message.State.PENDING).update(next_attempt_at=now)
        row.failing_since, row.failures, row.last_error, row.resume_at = None, 0, "", None
        row.last_success_at = now
        return
    row.failing_since = row.failing_since or outcome.started_at
    row.failures += 1
    row.last_error = outcome.error
    row.resume_at = now + max(rest_after(row.failures), outcome.asked_rest) if outcome.is_overloaded else None
    if outcome.status == HTTPStatus.GONE:
        _disable(row, "Its receiver answered 410: it wants no more messages.", now)
    elif now - row.failing_since >= FAILING_FOR:
        _disable(row, f"Nothing got through for {FAILING_FOR.days} days. At last: {outcome.error}", now)


def _disable(row: Subscription, reason: str, now: datetime) -> None:
    if row.state == Subscription.State.ACTIVE:
        row.state, row.state_reason = Subscription.State.DISABLED, reason[:_LONGEST_ERROR]
        row.state_changed_at, row.is_disabling_told = now, False
