"""What `scope-proxy convert --values` makes is what the chart takes."""

from pathlib import Path

from click.testing import CliRunner

from proxy.cli.main import main
from proxy.config.load import parse_config
from tests.chart.helm import parsed, template

OLD = """mirrors:
  cp.icr.io:
    endpoint: ["https://docker-na-public.artifactory.example.com"]
    rewrite:
      "^cp/se-data-center-edge/(.+)$": "se-next-gen-docker-local/$1"
configs:
  docker-na-public.artifactory.example.com:
    auth: {username: robot, password: canary-secret}
"""


def test_converted_values_render(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(OLD)
    done = CliRunner().invoke(main, ["convert", str(old), "--values", "--output", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    text = template(tmp_path / "new" / "values.yaml").checked()
    [config] = [parse_config(item, "config.yaml").config for item in parsed(text).configurations().values()]
    assert config.registries["cp.icr.io"].rewrites[0].replacement == "se-next-gen-docker-local/$1"
    assert "canary" not in text
