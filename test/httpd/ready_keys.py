# SPDX-License-Identifier: Apache-2.0
"""RSA keys that servers of tests get at once, see ready_keys.c. They are made once in a checkout."""
import concurrent.futures
import fcntl
import functools
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
COUNTS = {2048: 24, 3072: 12}


def make(path, *command):
    """Whole or not at all; anew when its source has changed."""
    if not path.exists() or path.suffix == ".so" and path.stat().st_mtime < (HERE / "ready_keys.c").stat().st_mtime:
        new = path.with_suffix(".new")
        subprocess.run([*command, new], check=True, capture_output=True)
        new.chmod(0o644)
        new.rename(path)


@functools.cache
def directory():
    """With the library and the keys, readable for the servers' user."""
    place = HERE.parents[1] / ".cache" / "ready-keys"
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock, concurrent.futures.ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tasks = [pool.submit(make, place / "ready_keys.so", "cc", "-shared", "-fPIC", "-O1", HERE / "ready_keys.c", "-o")]
        tasks += [pool.submit(make, place / f"{bits}-{i}.pem", "openssl", "genpkey", "-algorithm", "RSA",
                              "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out")
                  for bits, count in COUNTS.items() for i in range(count)]
        for task in tasks:
            task.result()
    return place


def environment(used):
    """For a server; `used` is a directory that all servers of the test share."""
    used.mkdir(exist_ok=True)
    used.chmod(0o777)
    return {"TEST_READY_KEYS": str(directory()), "TEST_USED_KEYS": str(used)}
