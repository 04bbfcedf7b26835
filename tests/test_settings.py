"""README against code: the settings, commands, make targets and links that it names exist; no setting is left out."""

import re
import shlex

import pytest
from django.core.management import get_commands, load_command_class

from tests.conftest import ENVIRONMENT
from tests.serving import ROOT

README = (ROOT / "README.md").read_text()
SETTINGS = re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (ROOT / "config/settings.py").read_text())


def test_readme_lists_every_setting_and_no_other():
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)) == sorted(SETTINGS)


def test_tests_start_without_any_setting_of_the_developer():
    assert sorted(ENVIRONMENT) == sorted(SETTINGS)


def test_only_the_settings_read_the_environment():
    readers = [
        str(path.relative_to(ROOT))
        for folder in ("calls", "webhooks", "config")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.environ\b(?!\.setdefault\(\"DJANGO_SETTINGS_MODULE\")|os\.getenv", path.read_text())
    ]
    # config/serve.py repeats DATA_DIR and PORT in the command that it suggests.
    assert sorted(readers) == ["config/env.py", "config/serve.py"]


@pytest.mark.parametrize("line", sorted(set(re.findall(r"manage\.py ([^`\n)]+)", README.replace("\\|", "|")))))
def test_readme_names_commands_and_options_that_exist(line: str):
    name, *words = shlex.split(line, comments=True)
    app = get_commands()[name]
    options = load_command_class(app, name).create_parser("manage.py", name)._option_string_actions
    assert [word for word in words if word.startswith("--") and word not in options] == []


def test_readme_names_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=`|$)", README, re.MULTILINE)) - targets == set()


def test_readme_links_to_files_that_exist():
    paths = [path for path in re.findall(r"\]\(([^)]+)\)", README) if "://" not in path]
    assert [path for path in paths if not (ROOT / path).exists()] == []
