# SPDX-License-Identifier: Apache-2.0
"""MDActivation live: certificates are in service the moment they are issued, with no restart."""
import json

import pytest

from servers import wait_for


def in_service(env, name="a.test", count=1):
    env.wait_log(rf"Managed Domain {name} has been set up and its new certificate is in service", count=count)


def serial(env, name="a.test"):
    return env.tls_cert(name).serial_number


@pytest.fixture
def live(env):
    env.add_md_conf("MDPrivateKeys P-256\nMDActivation live")
    return env


@pytest.mark.parametrize("mpm", ["event", "worker", "prefork"])
def test_first_issuance(live, mpm):
    """From the temporary certificate and our own 503 to the real page."""
    live.mpm = mpm
    live.add_md_conf("MDomain a.test\nMDInitialDelay 3s")
    live.add_vhost("a.test")
    live.start()
    status, headers, _ = live.get("/", "a.test", https=True)
    assert status == 503 and int(headers["Retry-After"]) > 0
    in_service(live)
    status, _, body = live.get("/", "a.test", https=True, verify=live.ca.root_pem())
    assert status == 200 and body == "it is served\n"
    assert not live.problems()
