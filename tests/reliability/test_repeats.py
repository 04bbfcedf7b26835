"""Repeats and disorder change nothing: many workers, every report four times, all of it shuffled."""

import json
import random

from tests.reliability.system import PIOPIY_ACCOUNT, call

COPIES = 4
TOKEN = "token-of-the-same-again"


def test_four_copies_of_each_report_in_any_order_give_the_rows_of_one_in_order(start, lengths):
    system = start(workers=4)
    system.run("manage.py", "add_account", "again", "--provider", "piopiy", "--token", TOKEN)
    numbers = range(300 if lengths.is_long else 40)
    in_order = [post for number in numbers for post in call(number)]
    again = [post for number in numbers for post in call(number, f"/webhooks/piopiy/{TOKEN}/")]
    reports = [post for post in again if "duration" in json.loads(post.body)]
    again += (COPIES - 1) * reports
    random.Random(5).shuffle(again)

    with system.send(in_order, lengths.rate) as once, system.send(again, lengths.rate) as repeated:
        pass
    assert set(once.answers) == set(repeated.answers) == {200}
    system.wait_until_drained()
    system.assert_keeps(once, repeated)
    processed = system.rows("SELECT count(*), sum(repeats) FROM webhooks_delivery WHERE status = 'processed'")
    assert processed == [(2 * len(in_order), (COPIES - 1) * len(reports))]
    assert len(system.told_by_providers("again").splitlines()) > len(numbers)
    assert system.told_by_providers("again") == system.told_by_providers(PIOPIY_ACCOUNT)
