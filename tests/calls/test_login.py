"""Logging in: locks after failures, the code from an app, and how long and at how many places a session lasts."""

import time
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from calls.models import AuditEntry, StaffAccess, StaffSession
from tests.calls.staff import logged_in, person

pytestmark = pytest.mark.django_db

PASSWORD = "a long password"
LOGIN = "/admin/login/"


@pytest.fixture
def asha() -> User:
    return User.objects.create_superuser("asha", password=PASSWORD)


def log_in(client: Client, password: str = PASSWORD, name: str = "asha", address: str = "203.0.113.7", **headers):
    return client.post(LOGIN, {"username": name, "password": password}, REMOTE_ADDR=address, **headers)


def code_of(device: TOTPDevice, steps: int = 0) -> str:
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    totp.time = time.time() + steps * device.step
    return f"{totp.token():06}"


def set_up(client: Client, user: User) -> list[str]:
    """Set up an app and return the backup codes."""
    client.get("/admin/code/set-up/")
    device = TOTPDevice.objects.get(user=user, confirmed=False)
    answer = client.post("/admin/code/set-up/", {"code": code_of(device)})
    return answer.context["codes"]


# --- Locks -----------------------------------------------------------------------------------------------------------


def test_five_failures_lock_a_name_for_its_address_and_say_until_when(client, asha):
    for _ in range(4):
        assert log_in(client, "wrong").status_code == 200
    assert log_in(client, "wrong").status_code == 429
    locked = log_in(client)
    assert locked.status_code == 429
    assert "15 minutes" in locked.content.decode()
    assert "Try again at" in locked.content.decode()
    assert log_in(Client(), address="203.0.113.8").status_code == 302
    kinds = list(AuditEntry.objects.order_by("id").values_list("action", "target_name", "address"))
    assert kinds.count(("login_failed", "asha", "203.0.113.7")) >= 4
    assert ("locked_out", "asha", "203.0.113.7") in kinds
    assert kinds[-1] == ("login", "asha", "203.0.113.8")


def test_the_lock_opens_by_itself(client, asha):
    for _ in range(5):
        log_in(client, "wrong")
    with time_machine.travel(timezone.now() + timedelta(minutes=15, seconds=1)):
        assert log_in(client).status_code == 302


def test_an_administrator_unlocks(client, asha):
    for _ in range(5):
        log_in(client, "wrong")
    administrator = logged_in(person("administrator"))
    page = administrator.get("/admin/axes/accessattempt/").content.decode()
    assert "asha" in page
    row = page.partition('name="_selected_action" value="')[2].partition('"')[0]
    administrator.post("/admin/axes/accessattempt/", {"action": "unlock", "_selected_action": [row]})
    assert log_in(client).status_code == 302
    assert logged_in(person("manager")).get("/admin/axes/accessattempt/").status_code == 403


def test_behind_a_proxy_the_address_is_the_callers_own_and_cannot_be_made_up(client, asha, settings):
    settings.TRUSTED_PROXIES = 1
    for number in range(5):
        log_in(client, "wrong", address="10.0.0.1", HTTP_X_FORWARDED_FOR=f"198.51.100.{number}, 203.0.113.7")
    assert log_in(client, address="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.7").status_code == 429
    assert log_in(Client(), address="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.9").status_code == 302


def test_what_was_typed_for_a_name_is_not_kept_unless_it_is_one(client, asha):
    log_in(client, "wrong", name="my secret password")
    entry = AuditEntry.objects.get(action="login_failed")
    assert entry.target_name == "an unknown user name"


@pytest.mark.parametrize("name", ["", "a" * 5000, "a\x00b", "😀", "' OR 1=1"])
def test_odd_names_are_refused_and_break_nothing(client, asha, name):
    assert log_in(client, "wrong", name=name).status_code == 200


# --- The code --------------------------------------------------------------------------------------------------------


def test_an_app_is_set_up_and_its_code_asked_for_at_the_next_login(client, asha):
    codes = set_up(logged_in(asha), asha)
    assert len(codes) == len(set(codes)) == 8
    assert log_in(client).status_code == 302
    answer = client.get("/admin/calls/conversation/?q=1")
    assert answer.status_code == 302
    assert answer.url == "/admin/code/?next=%2Fadmin%2Fcalls%2Fconversation%2F%3Fq%3D1"
    assert client.post("/admin/calls/tag/add/", {"name": "VIP"}).status_code == 302
    wrong = client.post("/admin/code/", {"code": "000000"})
    assert "not right" in wrong.content.decode()
    assert client.get("/admin/").status_code == 302
    with time_machine.travel(timezone.now() + timedelta(minutes=5)):
        code = code_of(TOTPDevice.objects.get())
        there = client.post("/admin/code/", {"code": code, "next": "/admin/calls/conversation/?q=1"})
        assert there.url == "/admin/calls/conversation/?q=1"
        assert client.get("/admin/").status_code == 200
        other = Client()
        log_in(other)
        assert other.post("/admin/code/", {"code": code}).status_code == 200  # used before


def test_a_backup_code_opens_once(client, asha):
    codes = set_up(logged_in(asha), asha)
    log_in(client)
    assert client.post("/admin/code/", {"code": codes[0].upper()}).status_code == 302
    assert client.get("/admin/").status_code == 200
    assert StaticToken.objects.count() == 7
    other = Client()
    log_in(other)
    assert other.post("/admin/code/", {"code": codes[0]}).status_code == 200
    assert other.get("/admin/").status_code == 302


def test_codes_cannot_be_tried_out_one_after_the_other(client, asha):
    set_up(logged_in(asha), asha)
    log_in(client)
    with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
        for _ in range(3):
            answer = client.post("/admin/code/", {"code": "000000"})
        assert "Too many wrong codes" in answer.content.decode() or "not right" in answer.content.decode()
        assert client.post("/admin/code/", {"code": code_of(TOTPDevice.objects.get())}).status_code == 200


def test_who_must_have_an_app_sets_it_up_before_anything_else(client, asha):
    StaffAccess.objects.create(user=asha, is_code_required=True)
    log_in(client)
    assert client.get("/admin/").url == "/admin/code/set-up/?next=%2Fadmin%2F"
    set_up(client, asha)
    assert client.get("/admin/").status_code == 200


def test_all_staff_must_have_an_app_if_the_setting_says_so(client, asha, settings):
    settings.REQUIRE_TOTP = True
    log_in(client)
    for page in ("/admin/", "/admin/calls/conversation/", "/admin/search/?s=1", "/admin/auth/user/"):
        assert client.get(page).url.startswith("/admin/code/set-up/"), page


def test_an_app_is_not_replaced_with_the_password_alone(client, asha):
    set_up(logged_in(asha), asha)
    log_in(client)
    assert client.get("/admin/code/set-up/").url == "/admin/code/"
    assert client.post("/admin/code/set-up/", {"code": "123456"}).url == "/admin/code/"


def test_the_way_on_leads_to_this_site_only(client, asha):
    codes = set_up(logged_in(asha), asha)
    log_in(client)
    answer = client.post("/admin/code/", {"code": codes[0], "next": "https://example.com/"})
    assert answer.url == "/admin/"


def test_an_administrator_lets_who_lost_the_phone_set_it_up_again(client, asha):
    user = person("viewer")
    set_up(logged_in(user), user)
    administrator = logged_in(person("administrator"))
    administrator.post("/admin/auth/user/", {"action": "forget_app", "_selected_action": [user.pk]})
    assert not TOTPDevice.objects.exists()
    log_in(client, name="viewer")
    assert client.get("/admin/").status_code == 200


def test_pages_with_codes_are_not_kept_by_the_browser_and_open_to_nobody_else(client, asha):
    for page in ("/admin/code/", "/admin/code/set-up/"):
        assert client.get(page).url.startswith("/admin/login/")
    answer = logged_in(asha).get("/admin/code/set-up/")
    assert "no-store" in answer["Cache-Control"]


# --- Sessions --------------------------------------------------------------------------------------------------------


def test_a_session_ends_after_an_hour_without_a_page(client, asha):
    log_in(client)
    now = timezone.now()
    for minutes, status in [(50, 200), (100, 200), (161, 302)]:
        with time_machine.travel(now + timedelta(minutes=minutes)):
            assert client.get("/admin/").status_code == status
    assert client.get("/admin/").status_code == 302


def test_a_session_ends_after_twelve_hours_however_busy(client, asha):
    log_in(client)
    now = timezone.now()
    for half_hours in range(1, 24):
        with time_machine.travel(now + timedelta(minutes=30 * half_hours)):
            assert client.get("/admin/code/set-up/").status_code == 200
    with time_machine.travel(now + timedelta(hours=12, minutes=1)):
        assert client.get("/admin/").status_code == 302


def test_the_fourth_place_ends_the_first(asha):
    places = [Client() for _ in range(4)]
    for place in places:
        log_in(place)
    assert [place.get("/admin/code/set-up/").status_code for place in places] == [302, 200, 200, 200]
    assert StaffSession.objects.count() == 3


def test_another_password_ends_the_sessions_at_other_places(asha):
    here, elsewhere = Client(), Client()
    log_in(here)
    log_in(elsewhere)
    data = {"old_password": PASSWORD, "new_password1": "another long one", "new_password2": "another long one"}
    assert here.post("/admin/password_change/", data).status_code == 302
    assert here.get("/admin/").status_code == 200
    assert elsewhere.get("/admin/").status_code == 302


def test_logging_out_is_written_down_and_ends_the_session(client, asha):
    log_in(client)
    client.post("/admin/logout/")
    assert client.get("/admin/").status_code == 302
    assert AuditEntry.objects.filter(action="logout", user=asha).exists()
