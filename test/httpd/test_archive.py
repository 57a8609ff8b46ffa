# SPDX-License-Identifier: Apache-2.0
"""MDArchiveKeep: how many former sets stay."""
import sets

NAME = "a.test"


def activate(httpd, days):
    serial = sets.put_staged(httpd.store, [NAME], sets.make_pair([NAME], (-0.5, days)))
    httpd.graceful()
    assert sets.live_serial(httpd.store, NAME) == serial
    return serial


def archived(httpd):
    return {sets.serial((path / sets.CERT).read_bytes()) for path in (httpd.store / "archive").iterdir()}


def test_former_sets_that_are_kept(httpd):
    sets.make_store(httpd.store)
    sets.configure(httpd, [NAME])
    httpd.add_md_conf("MDArchiveKeep 0")
    serials = [sets.put_live(httpd.store, [NAME])]
    httpd.start()
    serials += [activate(httpd, 90 + i) for i in range(12)]
    assert archived(httpd) == set(serials[:-1])  # all of them
    httpd.md_conf[-1] = ""
    httpd.graceful()  # nothing is removed without need
    assert archived(httpd) == set(serials[:-1])
    serials.append(activate(httpd, 110))
    assert archived(httpd) == set(serials[-11:-1])
    httpd.add_md_conf("MDArchiveKeep 2")
    serials.append(activate(httpd, 111))
    assert archived(httpd) == set(serials[-3:-1])
    assert sets.CERT in [path.name for path in (httpd.store / "domains" / NAME).iterdir()]
