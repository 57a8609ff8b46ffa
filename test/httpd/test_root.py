# SPDX-License-Identifier: Apache-2.0
"""Root in a store in which children write: it follows nothing, gives nothing away, is not kept busy, and puts
nothing into service that it did not check."""
import os
import shutil
import stat

import pytest

import sets
from sets import KEY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root does")


@pytest.fixture
def served(httpd):
    """A server with a certificate for a.test."""
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["a.test"])
    sets.configure(httpd, ["a.test"])
    return httpd


def snapshot(*roots):
    """Owner, mode and content of all there is."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            st = path.lstat()
            found[str(path)] = (st.st_uid, st.st_mode, st.st_nlink,
                                path.read_bytes() if stat.S_ISREG(st.st_mode) else None)
    return found


def make_victim(workdir):
    victim = workdir / "victim"
    (victim / "a.test" / "deeper").mkdir(parents=True)
    for path in victim / "file", victim / "a.test" / "file", victim / "a.test/deeper/file.tmp":
        path.write_text("precious")
        path.chmod(0o600)
        os.utime(path, (1, 1))
    for path in victim, victim / "a.test", victim / "a.test/deeper":
        path.chmod(0o700)
    return victim


@pytest.mark.parametrize("group", ["staging", "challenges", "accounts", "domains", "ocsp", "tmp", "archive"])
def test_base_that_children_own(served, workdir, group):
    """`chown -R www-data md` is what people try first; then a child may put links in place of directories."""
    served.start()
    victim = make_victim(workdir)
    for path in [served.store, *served.store.rglob("*")]:
        shutil.chown(path, sets.USER)
    place = served.store / group
    if group != "domains":
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(victim)
    else:
        (place / "gone.test").symlink_to(victim)
    before = snapshot(victim)
    tested = served.configtest()
    assert tested.returncode == 0 and f"chown root {served.store} && chmod go-w " in tested.stderr
    served.graceful()
    served.wait_log(rf"\[md:error\].*AH10047: .*{served.store} belongs to the user '{sets.USER}'.*'chown root "
                    rf"{served.store} && ")
    assert served.get("/", "a.test", https=True)[0] == 200
    assert "belongs to the user" in served.md_status("a.test")["renewal"]["last"]["detail"]
    assert snapshot(victim) == before
    assert served.store.owner() == sets.USER


def test_the_command_that_repairs(served):
    served.start()
    for path in [served.store, *served.store.rglob("*")]:
        shutil.chown(path, sets.USER)
    served.graceful()
    log = served.error_log()
    command = log[log.index("'chown root ") + 1:]
    command = command[:command.index("'")]
    assert os.system(command) == 0
    sets.put_staged(served.store, ["a.test"])
    served.graceful()
    assert served.error_log().count("AH10047") == 1
    assert served.error_log().count("AH10068") == 1
    assert (served.store / "domains/a.test" / KEY).stat().st_uid == 0


@pytest.mark.parametrize("path, mode", [("", 0o777), ("", 0o775), ("domains", 0o770), ("accounts", 0o1777)])
def test_writable_for_others(served, path, mode):
    (served.store / path).mkdir(exist_ok=True)
    (served.store / path).chmod(mode)
    served.start()
    served.wait_log(r"\[md:error\].*AH10047: .* can be written to by others.*'chown root .*chmod go-w ")
    assert stat.S_IMODE((served.store / path).stat().st_mode) == mode


def test_tool_in_a_store_of_others(served):
    from test_a2md import Tool
    tool = Tool(served.store)
    tool.ok("list")
    shutil.chown(served.store, sets.USER)
    for command in ["list"], ["add", "b.test"], ["drive"]:
        told = tool.fails(*command)
        assert "belongs to the user" in told and "chown root" in told
    assert not (served.store / "domains/b.test").exists()
