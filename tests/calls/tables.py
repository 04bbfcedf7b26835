"""The call log's tables as one comparable value: every derived column, ids left out."""

from django.db.models import Model

from calls.models import Account, BalanceReading, Conversation, StoredRecord

_NOT_DERIVED = {"id", "conversation_id", "leg_id", "account_id", "agent_id"}


def call_log(account: Account) -> list:
    """Return what the account's tables hold, in an order of its own, equal for equal content."""
    calls = []
    for call in Conversation.objects.filter(account=account).prefetch_related("aliases", "legs", "events"):
        legs = {leg.pk: _columns(leg) | {"agent": leg.agent and leg.agent.external_id} for leg in call.legs.all()}
        readings = BalanceReading.objects.filter(conversation=call)
        calls.append(
            {
                "call": _columns(call) | {"agent": call.agent and call.agent.external_id},
                "aliases": sorted((alias.scheme, alias.value) for alias in call.aliases.all()),
                "legs": sorted(legs.values(), key=repr),
                "events": sorted(
                    (_columns(event) | {"leg": legs.get(event.leg_id)} for event in call.events.all()), key=repr
                ),
                "readings": sorted(
                    (_columns(reading) | {"leg": legs[reading.leg_id]} for reading in readings), key=repr
                ),
            }
        )
    parked = StoredRecord.objects.filter(account=account, conversation=None).values_list("parked_under", "body")
    return [*sorted(calls, key=lambda call: call["aliases"]), sorted(parked)]


def _columns(row: Model) -> dict[str, object]:
    names = [column.attname for column in row._meta.concrete_fields if column.attname not in _NOT_DERIVED]
    return {name: _in_order(getattr(row, name)) for name in names}


def _in_order(value: object) -> object:
    """Return JSON with its names in order. That means nothing, and SQLite keeps the one in which they came."""
    if isinstance(value, dict):
        return {name: _in_order(value[name]) for name in sorted(value)}
    return list(map(_in_order, value)) if isinstance(value, list) else value
