import re
from pathlib import Path

from proxy.config.base import Model
from proxy.config.errors import ConfigError
from proxy.config.load import parse_config
from proxy.config.model import Config
from proxy.config.reading.shape import section_in, settings
from proxy.k3s.registries_yaml import parse_registries
from scripts.reference.settings import MARKER, render_reference
from tests.fakes.restart import RELOAD, RESTART

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
HEAD, _, GENERATED = PAGE.partition(MARKER)


def sections(section: type[Model]) -> set[type[Model]]:
    inner = {found for annotation in settings(section).values() if (found := section_in(annotation)) is not None}
    return {section}.union(*(sections(found) for found in inner))


def test_the_generated_part_is_what_the_models_say() -> None:
    assert render_reference() == MARKER + GENERATED


def test_every_setting_is_described() -> None:
    fields = [
        (field.alias or name, field) for section in sections(Config) for name, field in section.model_fields.items()
    ]
    assert [name for name, field in fields if f"| `{name}` |" not in GENERATED or not field.description] == []


def restart_cells() -> dict[str, str]:
    """What the column `restart` says of each setting, by its path."""
    cells = {}
    for section in GENERATED.split("### ")[1:]:
        title, _, table = section.partition("\n")
        prefix = f"{title.strip('`')}." if title.startswith("`") else ""
        for row in table.splitlines():
            if row.startswith("| `"):
                name, *_, restart, _ = re.split(r"(?<!\\)\|", row.strip("| "))
                cells[prefix + name.strip(" `")] = restart.strip()
    return cells


def test_the_page_says_of_each_setting_whether_it_needs_a_restart() -> None:
    cells = restart_cells()
    assert {name for name in RESTART if cells[name] != "yes"} == {"listeners[].clients.auth"}
    assert cells["listeners[].clients.auth"] == "for `certificate`"
    assert {name: cells[name] for name in RELOAD if cells[name]} == {}


def test_the_examples_of_the_page_load() -> None:
    blocks = [block.partition("```")[0] for block in HEAD.split("```yaml\n")[1:]]
    assert len(blocks) >= 3
    for block in blocks:
        try:
            problem = ""
            (parse_registries if "mirrors:" in block else parse_config)(block, "block")
        except ConfigError as error:
            problem = str(error)
        assert problem == ""
