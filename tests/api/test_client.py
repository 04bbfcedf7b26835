"""A typed Python client, made from the schema without a network, reads and writes through a running server."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.management import call_command

from calls.choices import Scope
from calls.models import CallNote
from tests.api.factories import NOON, a_conversation, a_key, a_leg, an_account, an_agent, an_event

PACKAGE = "ringledger_client"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The client's package, which can be imported from then on."""
    folder = tmp_path_factory.mktemp("client")
    schema, options = folder / "schema.json", folder / "options.json"
    call_command("spectacular", "--format", "openapi-json", "--file", str(schema))
    options.write_text(json.dumps({"post_hooks": []}))
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(schema), "--config", str(options),
         "--meta", "none", "--output-path", str(folder / PACKAGE), "--fail-on-warning"],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield folder / PACKAGE
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def operation(name: str) -> ModuleType:
    """Return the module of an operation, by its id in the schema."""
    (found,) = (Path(module("api").__file__).parent).glob(f"*/{name}.py")
    return module(f"api.{found.parent.name}.{name}")


@pytest.fixture
def client(package: Path, live_server: Any) -> Any:
    """A client whose key may read and manage."""
    key = a_key(Scope.READ, Scope.MANAGE)
    return module("client").AuthenticatedClient(live_server.url, key, raise_on_unexpected_status=True)


def test_the_client_is_typed_without_a_gap(package: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(package.parent / "cache"),
         str(package)],
        capture_output=True, text=True, timeout=300, cwd=package.parent,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_it_has_every_operation_of_the_schema(package: Path) -> None:
    document = json.loads((package.parent / "schema.json").read_text())
    names = {
        item[method]["operationId"]
        for item in document["paths"].values()
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}
    }
    assert {path.stem for path in (package / "api").glob("*/*.py")} - {"__init__"} == names


def test_a_list_is_read_page_by_page(client: Any) -> None:
    made = [str(a_conversation(started_at=NOON + timedelta(seconds=i)).id) for i in range(5)]
    listed = operation("conversations_list")
    found, cursor = [], module("types").UNSET
    while cursor is not None:
        page = listed.sync(client=client, page_size=2, cursor=cursor)
        assert isinstance(page, module("models").PaginatedConversationList)
        found += [str(row.id) for row in page.results]
        cursor = parse_qs(urlsplit(page.next_).query)["cursor"][0] if page.next_ else None
    assert found == made[::-1]


def test_one_conversation_comes_with_its_legs_and_events(client: Any) -> None:
    call = a_conversation("vip")
    an_event(a_leg(call))
    found = operation("conversations_retrieve").sync(str(call.id), client=client)
    assert isinstance(found, module("models").ConversationDetail)
    assert (found.id, found.started_at, found.cost) == (call.id, NOON, "0.450000")
    assert found.disposition == module("models").Disposition.ANSWERED
    assert [leg.conversation for leg in found.legs] == [call.id]
    assert len(found.events) == 1


def test_figures_are_read_with_filters(client: Any) -> None:
    a_conversation()
    a_conversation(direction="outbound")
    direction = module("models.stats_summary_retrieve_direction_item").StatsSummaryRetrieveDirectionItem
    found = operation("stats_summary_retrieve").sync(client=client, direction=[direction.OUTBOUND])
    assert found.calls == 1


def test_a_refusal_is_a_typed_problem(client: Any) -> None:
    an_account("delhi-support")
    answer = operation("conversations_list").sync_detailed(client=client, account=["delhi-suport"])
    assert answer.status_code == 400
    assert isinstance(answer.parsed, module("models").Problem)
    (error,) = answer.parsed.errors
    assert (error.field, error.value) == ("account", "delhi-suport")
    assert "“delhi-support”" in error.message


def test_an_unknown_key_is_a_typed_problem(client: Any) -> None:
    stranger = module("client").AuthenticatedClient(client._base_url, "rl_unknown")
    answer = operation("accounts_list").sync_detailed(client=stranger)
    assert (answer.status_code, answer.parsed.status) == (401, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_note_is_written_once_however_often_it_is_sent(client: Any) -> None:
    call = a_conversation()
    body = module("models").NoteBody(text="Asked for a refund.")
    write = operation("conversations_notes_create")
    first, again = (write.sync(str(call.id), client=client, body=body, idempotency_key="refund-17") for _ in range(2))
    assert first.text == "Asked for a refund."
    assert first == again
    assert CallNote.objects.count() == 1


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(client: Any) -> None:
    agent = an_agent()
    read = operation("agents_retrieve").sync_detailed(str(agent.pk), client=client)
    write = operation("agents_partial_update").sync_detailed
    asha, ravi = (module("models").PatchedPersonBody(name=name) for name in ("Asha", "Ravi"))
    etag = read.headers["ETag"]
    assert write(str(agent.pk), client=client, body=ravi, if_match=etag).parsed.name == "Ravi"
    refused = write(str(agent.pk), client=client, body=asha, if_match=etag)
    assert (refused.status_code, refused.parsed.errors[0].field) == (412, "If-Match")


def test_a_subscription_is_made_and_ended(client: Any, settings: Any) -> None:
    settings.ALLOWED_PRIVATE_TARGETS = [ip_network("127.0.0.0/8")]
    models = module("models")
    body = models.NewSubscription("crm", "http://127.0.0.1/hooks", [models.EventTypesEnum.CONVERSATION_ENDED])
    made = operation("subscriptions_create").sync(client=client, body=body)
    assert made.secret.startswith("whsec_")
    read = operation("subscriptions_retrieve").sync_detailed(str(made.id), client=client)
    assert read.parsed.event_types == [models.EventTypesEnum.CONVERSATION_ENDED]
    ended = operation("subscriptions_destroy").sync_detailed(str(made.id), client=client, if_match=read.headers["ETag"])
    assert ended.status_code == 204
    gone = operation("subscriptions_retrieve").sync(str(made.id), client=client)
    assert (gone.status, isinstance(gone, models.Problem)) == (404, True)
