"""One row of everything that the API shows."""

from calls import changes
from calls.models import ApiKey, CallNote, Contact, ContactNumber, Message, MissedCaller, Subscription
from tests.api.factories import NOON, a_conversation, a_delivery, a_leg, a_reading, an_agent, an_alert, an_event


def one_of_each(key: ApiKey) -> dict[str, str]:
    """Make one row of each kind and return their ids, by the words of the addresses that they stand in."""
    call = a_conversation(agent=an_agent())
    leg = a_leg(call)
    an_event(leg)
    a_reading(leg)
    an_alert()
    contact = Contact.objects.create(name="Ravi")
    ContactNumber.objects.create(number=call.customer_number, contact=contact)
    caller = MissedCaller.objects.create(
        account=call.account,
        customer_number=call.customer_number,
        misses=1,
        first_missed_at=NOON,
        last_missed_at=NOON,
        due_at=NOON,
        attempts=0,
    )
    subscription = Subscription(name="crm", url="https://crm.example.com/", cursor=str(changes.now([call.account_id])))
    subscription.renew_secret()
    subscription.save()
    subscription.accounts.add(call.account)
    message = Message.objects.create(subscription=subscription, account=call.account, type="test", body=b"{}")
    return {
        "accounts": call.account.slug,
        "agents": str(call.agent.pk),
        "contacts": str(contact.pk),
        "conversations": str(call.id),
        "deliveries": str(a_delivery(call).id),
        "notes": str(CallNote.objects.create(conversation=call, text="Called back.", api_key=key).pk),
        "subscriptions": str(subscription.pk),
        "subscriptions/messages": str(message.message_id),
        "worklist": str(caller.pk),
    }


def ids_of(path: str, rows: dict[str, str]) -> dict[str, str]:
    """Return the values for the placeholders of a path of the schema."""
    words: list[str] = []
    found = {}
    for part in path.removeprefix("/api/v1/").split("/"):
        if part.startswith("{"):
            found[part[1:-1]] = rows["/".join(words)]
        else:
            words.append(part)
    return found
