"""Notices under several workers, kills and failing receivers: none is lost, and a copy can be told by its id."""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

from tests.reliability.client import Post
from tests.reliability.system import PATHS, PIOPIY_ACCOUNT, Installation, ask
from tests.serving import until
from tests.sinks import mail_sink, web_sink

PATIENCE = 120
"""Seconds after which something that should have happened counts as failed."""

CHANNELS = """
import sys, django; django.setup()
from calls.models import Account, AlertRule, Channel
rule = AlertRule(name="Low", kind="low_balance", opens_at=500, clears_at=900)
rule.save()
rule.channels.set([
    Channel.objects.create(name="boss", kind="email", target="boss@example.com"),
    Channel.objects.create(name="ours", kind="webhook", target=sys.argv[1]),
])
"""
# Lets the balance of an account fall below the mark and rise again, once for each line that it reads.
CROSSER = """
import sys, django; django.setup()
from django.utils import timezone
from calls.alerting import engine
from calls.models import Account
from tests.calls.reports import paid_call, take
account = Account.objects.get(provider="piopiy")
for number, line in enumerate(sys.stdin):
    for step, balance in enumerate(["400", "1000"]):
        now = timezone.now()
        take(account, paid_call(2 * number + step, balance=balance, at=now), received_at=now)
        engine.review([account])
    print("crossed", flush=True)
"""
# Forks, for each line that it reads, a process that sends notices until it is killed; says its id.
NOTIFIER = """
import os, sys, time, django; django.setup()
from datetime import timedelta
from calls.alerting import notices
notices.LEASE = timedelta(seconds=0.3)  # there is one at a time, and it comes back at once
for line in sys.stdin:
    if not (process_id := os.fork()):
        while True:
            for channel_id in notices.waiting():
                notices.send_to(channel_id)
            time.sleep(0.01)
    print(process_id, flush=True)
    os.waitpid(process_id, 0)
"""


@pytest.fixture
def sinks() -> Iterator[tuple]:
    """A mailbox and a web server, and the settings and the address by which they are reached."""
    with mail_sink() as (mailbox, port), web_sink() as hook:
        yield mailbox, hook, {"EMAIL_URL": f"smtp://127.0.0.1:{port}", "ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8"}


def told(installation: Installation) -> Counter:
    return Counter(state for (state,) in installation.rows("SELECT state FROM calls_notice"))


def test_four_deliveries_of_the_crossing_cdr_and_three_workers_make_one_notice(start, sinks):
    mailbox, hook, settings = sinks
    system = start(webs=1, workers=3, beats=0, **settings)
    system.run("-c", CHANNELS, hook.url)
    ended = int(time.time()) - 60
    report = {
        "appid": 2222222, "conversation_uuid": "crossing", "cmiuuid": "crossing", "leg": "a", "direction": "inbound",
        "from": 919000000001, "to": 918000000000, "status": "answered", "time": ended * 1000, "start_time": ended - 30,
        "answer_time": ended - 25, "end_time": ended, "duration": 25, "call_rate": "0.450000", "balance": "499.550000",
    }  # fmt: skip
    sender = system.send([Post(PATHS[PIOPIY_ACCOUNT], json.dumps(report).encode())] * 4, rate=1000)
    with sender:
        pass
    assert sender.answers == {200: 4}
    assert until(lambda: told(system) == {"sent": 2}, PATIENCE), system.rows("SELECT * FROM calls_notice")
    for _ in range(3):  # every worker is asked again
        system.run("-c", "import django; django.setup(); from calls import tasks; tasks.review_alerts.delay()")
    system.run("-c", "import django; django.setup(); from calls import tasks; tasks.send_notices.delay()")
    finished = "calls.tasks.send_notices[^ ]* succeeded"
    logs = lambda: "".join(worker.log for worker in system.workers)  # noqa: E731
    assert until(lambda: len(re.findall(finished, logs())) >= 2, PATIENCE)
    assert (len(mailbox.mails), len(hook.posts)) == (1, 1)
    assert json.loads(hook.posts[0].body)["type"] == "alert.opened"
    assert told(system) == {"sent": 2}


def test_kills_and_failing_receivers_lose_nothing_and_copies_bear_the_same_id(start, sinks, lengths):
    """Three in ten messages are refused. A kill falls where it hurts: a message is with its receiver, not yet noted."""
    mailbox, hook, settings = sinks
    wanted_crossings, wanted_kills = (200, 50) if lengths.is_long else (30, 6)
    installation = start(webs=0, workers=0, beats=0, **settings)
    installation.run("-c", CHANNELS, hook.url)
    chance, accepted, kills, notifiers = random.Random(4), [], [], []

    def take(message_id: str, ok: object, refusal: object) -> object:
        if chance.random() < 0.3:
            return refusal
        accepted.append(message_id)
        if len(accepted) % 4 == 0 and len(kills) < min(wanted_kills, len(notifiers)):
            kills.append(message_id)
            os.kill(notifiers[-1], signal.SIGKILL)
        return ok

    mailbox.answer = lambda mail: take(mail["Message-ID"].strip("<>").partition("@")[0], "250 OK", "451 Later")
    hook.answer = lambda post: take(post.headers["webhook-id"], 200, 503)

    crosser, notifier = installation.program(CROSSER), installation.program(NOTIFIER)
    try:
        crossings, deadline = 0, time.monotonic() + 5 * PATIENCE
        with psycopg.connect(installation.database_url, autocommit=True) as database:
            while (waiting := told(installation)) != {"sent": 4 * wanted_crossings}:
                assert time.monotonic() < deadline, waiting
                if len(notifiers) == len(kills):
                    notifiers.append(int(ask(notifier)))
                if crossings < wanted_crossings and waiting["due"] < 8:  # more would go out together
                    assert ask(crosser) == "crossed"
                    crossings += 1
                # The pauses between tries are not waited for.
                database.execute("UPDATE calls_notice SET due_at = now() WHERE state = 'due' AND due_at > now()")
    finally:
        for one in (crosser, notifier):
            os.killpg(one.pid, signal.SIGKILL)
            one.communicate()
    assert len(kills) == wanted_kills
    assert installation.rows("SELECT count(*) FROM calls_alert WHERE cleared_at IS NOT NULL") == [(wanted_crossings,)]
    ids = {str(one) for (one,) in installation.rows("SELECT DISTINCT message_id FROM calls_notice")}
    assert set(accepted) == ids, "a message never arrived, or one that nobody knows of"
    copies = {message_id: times - 1 for message_id, times in Counter(accepted).items() if times > 1}
    assert sum(copies.values()) <= wanted_kills
    assert set(copies) <= set(kills)
    bodies = {post.headers["webhook-id"]: json.loads(post.body) for post in hook.posts}
    arrived = Counter(
        (one["data"]["id"], one["type"]) for body in bodies.values() for one in body["data"].get("notices", [body])
    )
    assert set(arrived.values()) == {1}
    assert Counter(word for _, word in arrived) == {"alert.opened": wanted_crossings, "alert.cleared": wanted_crossings}
