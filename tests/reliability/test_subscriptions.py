"""Subscriptions under kills and a receiver that fails: no message is lost, and a copy can be told by its id."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict

import psycopg

from tests.reliability.system import Installation, ask, call
from tests.serving import until
from tests.sinks import Post, web_sink

PATIENCE = 300
"""Seconds after which something that should have happened counts as failed."""
EVENT_TYPES = ["conversation.started", "conversation.ended"]

SUBSCRIBER = f"""
import sys, django; django.setup()
from calls.models import Subscription
from calls.subscriptions import control
control.begin(Subscription(name="crm", url=sys.argv[1], event_types={EVENT_TYPES}))
"""
# Takes in a call that began and ended for each line that it reads.
CALLER = """
import sys, django; django.setup()
from calls.models import Account
from tests.calls.reports import paid_call, take
account = Account.objects.get(provider="piopiy")
for number, line in enumerate(sys.stdin):
    take(account, paid_call(number, balance="400"))
    print("taken", flush=True)
"""
# Forks, for each line that it reads, a process that tells subscribers until it is killed; says its id.
TELLER = """
import os, sys, time, django; django.setup()
from datetime import timedelta
from calls.subscriptions import following, sender
sender.LEASE = timedelta(seconds=0.3)  # there is one at a time, and it comes back at once
for line in sys.stdin:
    if not (process_id := os.fork()):
        while True:
            following.follow_all(timedelta(seconds=1))
            sender.send()
            time.sleep(0.01)
    print(process_id, flush=True)
    os.waitpid(process_id, 0)
"""


def waiting(installation: Installation) -> Counter:
    return Counter(dict(installation.rows("SELECT state, count(*) FROM calls_message GROUP BY state")))


def test_what_a_provider_reports_reaches_a_subscriber_by_the_running_program(start):
    with web_sink() as hook:
        system = start(webs=1, workers=2, beats=1, ALLOWED_PRIVATE_TARGETS="127.0.0.0/8")
        system.run("-c", SUBSCRIBER, hook.url)
        with system.send(call(1), rate=1000) as sender:
            pass
        assert set(sender.answers) == {200}
        assert until(lambda: len(hook.posts) >= 2, PATIENCE), waiting(system)
        assert until(lambda: waiting(system) == {"delivered": len(hook.posts)}, PATIENCE), waiting(system)
    assert [json.loads(post.body)["type"] for post in hook.posts] == EVENT_TYPES


def test_kills_and_a_failing_receiver_lose_no_message_and_copies_bear_the_same_id(start, lengths):
    """Three in ten messages are refused. A kill falls where it hurts: messages are with the receiver, not yet noted."""
    wanted_calls, wanted_kills = (400, 50) if lengths.is_long else (60, 6)
    chance, lock = random.Random(6), threading.Lock()
    accepted: list[Post] = []
    kills: list[int] = []
    tellers: list[int] = []

    def take(post: Post) -> int:
        with lock:
            if chance.random() < 0.3:
                return 503
            accepted.append(post)
            if len(accepted) % 8 == 0 and len(kills) < min(wanted_kills, len(tellers)):
                kills.append(tellers[-1])
                os.kill(tellers[-1], signal.SIGKILL)
            return 200

    with web_sink() as hook:
        hook.answer = take
        installation = start(webs=0, workers=0, beats=0, ALLOWED_PRIVATE_TARGETS="127.0.0.0/8")
        installation.run("-c", SUBSCRIBER, hook.url)

        caller, teller = installation.program(CALLER), installation.program(TELLER)
        try:
            calls, deadline = 0, time.monotonic() + PATIENCE
            with psycopg.connect(installation.database_url, autocommit=True) as database:
                while (now := waiting(installation)) != {"delivered": 2 * wanted_calls}:
                    assert time.monotonic() < deadline, now
                    if len(tellers) == len(kills):
                        tellers.append(int(ask(teller)))
                    if calls < wanted_calls:
                        assert ask(caller) == "taken"
                        calls += 1
                    with database.transaction():  # the pauses are not waited for
                        database.execute("UPDATE calls_subscription SET resume_at = NULL")
                        database.execute("UPDATE calls_message SET next_attempt_at = now() WHERE state = 'pending'")
        finally:
            for one in (caller, teller):
                os.killpg(one.pid, signal.SIGKILL)
                one.communicate()
    assert len(kills) == wanted_kills
    ids = {str(one) for (one,) in installation.rows("SELECT message_id FROM calls_message")}
    assert {post.headers["webhook-id"] for post in accepted} == ids, "a message never arrived, or nobody knows of it"
    bodies = defaultdict(set)
    for post in accepted:
        bodies[post.headers["webhook-id"]].add(post.body)
    assert {len(one) for one in bodies.values()} == {1}
    # In the order in which they first came: of each call its start, then its end, and nothing twice.
    told = defaultdict(list)
    for one in dict.fromkeys(post.headers["webhook-id"] for post in accepted):
        body = json.loads(*bodies[one])
        told[body["data"]["id"]].append(body["type"])
    assert len(told) == wanted_calls
    assert all(types == EVENT_TYPES for types in told.values())
    # At a kill no more is with the receiver than it gets at a time.
    assert len(accepted) - len(ids) <= 4 * wanted_kills
