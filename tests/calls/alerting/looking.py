"""What the tests of the kinds share: rules, what they find, and the lists that their evidence leads to."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.test import Client
from django.urls import reverse

from calls.alerting.findings import Evidence, Finding
from calls.alerting.kinds import KINDS
from calls.choices import AlertKind
from calls.models import Account, AlertRule

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday, 17:30 in India
MINUTE, HOUR, DAY, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)


def a_rule(kind: AlertKind, **values: Any) -> AlertRule:
    """A rule as it comes back from the database."""
    rule = AlertRule.objects.create(name=kind.label, kind=kind, **values)
    rule.refresh_from_db()
    return rule


def look(rule: AlertRule, account: Account, at: datetime = NOON) -> list[Finding]:
    """What the kind of ``rule`` finds."""
    return KINDS[rule.kind].evaluate(rule, account, at)


def verdict(rule: AlertRule, account: Account, at: datetime = NOON) -> str:
    """What one finding, or none, does to the alert on the account as a whole."""
    findings = look(rule, account, at)
    assert len(findings) <= 1
    return {None: "clears", True: "opens", False: "stays"}[findings[0].is_over if findings else None]


def listed(client: Client, evidence: Evidence) -> set:
    """The ids of the rows that a link leads to."""
    url = reverse(evidence.page, args=evidence.args)
    response = client.get(f"{url}?{urlencode(evidence.query)}" if evidence.query else url)
    assert response.status_code == 200, response
    return {row.pk for row in response.context["cl"].result_list}
