"""Deliveries are paged like conversations."""

from datetime import timedelta

import pytest
from django.utils import timezone

from webhooks.admin.delivery import DeliveryAdmin
from webhooks.models import Delivery

LIST = "/admin/webhooks/delivery/"


@pytest.mark.django_db
def test_next_and_previous_lead_through_all_deliveries(admin_client, account, monkeypatch):
    monkeypatch.setattr(DeliveryAdmin, "list_per_page", 5)
    now = timezone.now()
    made = [
        Delivery.objects.create(
            account=account,
            received_at=now - timedelta(seconds=number // 4),
            method="POST",
            size=0,
            digest=f"{number:064}",
        )
        for number in range(12)
    ]
    keys = [delivery.pk for delivery in sorted(made, key=lambda one: (one.received_at, one.pk), reverse=True)]
    first = admin_client.get(LIST).context["cl"]
    second = admin_client.get(LIST + first.next_page).context["cl"]
    third = admin_client.get(LIST + second.next_page).context["cl"]
    assert [delivery.pk for page in (first, second, third) for delivery in page.result_list] == keys
    assert third.next_page == ""
    back = admin_client.get(LIST + third.previous_page).context["cl"]
    assert back.result_list == second.result_list
