"""`hotconf schema`: the JSON Schema of a settings class."""

from __future__ import annotations

import json


def test_it_is_printed_or_written(verb, folder):
    printed = verb("schema", "app:App")
    assert (printed.code, printed.err) == (0, "")
    schema = json.loads(printed.out)
    assert schema["properties"]["port"]["x-restart-required"] is True
    assert schema["$defs"]["Database"]["properties"]["password"]["x-secret"] is True
    assert "canary" not in printed.out
    written = verb("schema", "app:conf", "--output", "app.schema.json")
    assert (written.code, written.out) == (0, "")
    assert json.loads((folder / "app.schema.json").read_text()) == schema


def test_unusable_arguments_are_2(verb, folder):
    for words in ([], ["app.toml"], ["app:App", "--output", "no/such/folder"], ["app:App", "--output", "."]):
        result = verb("schema", *words)
        assert (result.code, result.out) == (2, "")
        assert "Traceback" not in result.err
