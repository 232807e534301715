"""What is wrong in a file or an override is an error with its place, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from step_ray.config_text import ConfigError, apply_overrides, read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\noutput: {{ RUNS }}\n", r"line 2.*quote its value"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("name: x\nday: 2024-13-45\n", r"month must be in 1\.\.12 .*line 2"),
        ("seed: !!int x\n", "not valid YAML"),
    ],
)
def test_what_is_no_value_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


@pytest.mark.parametrize("value", ["2024-13-45", "{{ RUNS }}", "["])
def test_an_override_that_is_no_value(value: str) -> None:
    assert apply_overrides({}, [f"name={value}"]) == [
        f"name: not valid YAML ({value}) -> quote the value"
    ]
