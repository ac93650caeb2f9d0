"""The README's library example, run as it stands."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


async def test_the_library_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("app.toml").write_text('[database]\nurl = "postgres://db"\n', encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {"__name__": "example"}
    exec(compile(example, "README.md", "exec", dont_inherit=True), names)

    await names["main"]()

    assert capsys.readouterr().out.splitlines() == ["10", "database.url = 'postgres://db'  from app.toml:2:1"]
