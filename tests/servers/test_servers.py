"""The servers themselves: they start, hold what they are given, and end with the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers.azurite import Azurite
from tests.servers.moto import Moto
from tests.servers.process import ServerProcess
from tests.servers.s3rver import S3rver


def test_every_bucket_and_container_is_a_new_one(moto: Moto, azurite: Azurite) -> None:
    assert moto.new_bucket() != moto.new_bucket()
    assert azurite.new_container() != azurite.new_container()
    assert moto.request("GET", "/no-such-bucket") == 404


def test_s3rver_has_its_bucket(s3rver: S3rver) -> None:
    assert s3rver.request("GET", "/bucket") == 200


def test_a_server_of_the_tests_own_is_killed_and_started_again_on_its_port(own_azurite: Azurite) -> None:
    own_azurite.new_container()
    port = own_azurite.port
    own_azurite.kill()
    with pytest.raises(ConnectionRefusedError):
        own_azurite.request("GET", "/")
    own_azurite.start()
    assert own_azurite.port == port
    own_azurite.new_container()


def test_a_server_that_does_not_start_says_what_it_printed() -> None:
    program = "import sys; sys.exit('there is no such port')"
    server = ServerProcess("broken", lambda port: (sys.executable, "-c", program), r"port (\d+)")
    with pytest.raises(RuntimeError, match=r"broken ended with code 1(?s:.*)there is no such port"), server:
        pass


def test_a_server_ends_with_tests_that_are_killed() -> None:
    program = """
import sys, time
from tests.servers.moto import Moto
server = Moto()
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        server = psutil.Process(int(tests.stdout.readline()))
        tests.kill()
    _, alive = psutil.wait_procs([server], timeout=20)
    # One whose new parent does not look after it stays a zombie.
    survivors = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    for process in survivors:
        process.kill()
    assert not survivors
