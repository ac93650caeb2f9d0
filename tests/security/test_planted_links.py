"""What hotconf writes by itself never goes where a link that another user has planted leads."""

import datetime as dt
import os

import pytest

from hotconf.reload.last_good import LastGood
from hotconf.sources.atomic_write import stage
from hotconf.sources.overlay import Overlay
from tests.heart import App


def test_the_previous_overlay_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    victim = tmp_path / "bashrc"
    victim.write_text("mine")
    overlay = tmp_path / "overlay.toml"
    overlay.write_text('message = "old"\n')
    (tmp_path / "overlay.toml.previous").symlink_to(victim)
    Overlay(overlay, App).stage({"message": "new"}).publish()
    assert victim.read_text() == "mine"
    assert not (tmp_path / "overlay.toml.previous").is_symlink()
    assert "old" in (tmp_path / "overlay.toml.previous").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
@pytest.mark.parametrize("mode", [0o1777, 0o775])
def test_a_link_of_another_user_in_a_shared_folder_is_not_followed(tmp_path, mode):
    shared, victim = tmp_path / "shared", tmp_path / "bashrc"
    shared.mkdir()
    shared.chmod(mode)
    victim.write_text("mine")
    for name in ("good.json", "overlay.toml"):
        (shared / name).symlink_to(victim)
        os.lchown(shared / name, 12345, 12345)
    with pytest.raises(OSError, match="link of another user"):
        stage(shared / "overlay.toml", b"planted")
    good = LastGood(shared / "good.json", App)
    good.write({}, generation=1, when=dt.datetime.now(dt.UTC))
    assert "link of another user" in good.error
    assert victim.read_text() == "mine"
    os.lchown(shared / "overlay.toml", os.geteuid(), -1)
    stage(shared / "overlay.toml", b"wanted").publish()
    assert victim.read_text() == "wanted"
