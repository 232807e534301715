"""A teacher's server on a host of its own, by network namespaces, that is cut off while it is
asked: requests are sent again until it is back, and end with their deadline if it never is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from tests.drills.hosts import Hosts, possible

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
SERVER = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "fine"}
        body = json.dumps({
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        }).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
print("up", flush=True)
server.serve_forever()
"""
CLIENT = """
import asyncio, json, sys
from step_ray.models.base import ModelError, Sampling
from step_ray.models.remote import RemoteModel

async def ask(model):
    try:
        return (await model.chat([{"role": "user", "content": "Is it?"}], Sampling())).text
    except ModelError as error:
        return str(error)

async def main():
    model = RemoteModel(sys.argv[1], "m", timeout=1.0, deadline=float(sys.argv[2]), failures=3)
    for line in sys.stdin:  # a line for so many questions at once
        answers = asyncio.gather(*(ask(model) for _ in range(int(line))))
        while not answers.done():
            await asyncio.sleep(0.05)
            if model.traffic().retries and not getattr(main, "said", False):
                main.said = True
                print(json.dumps("again"), flush=True)
        print(json.dumps(await answers), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not possible():
        pytest.skip("no network namespaces here: they need root and `ip`")
    with Hosts(["driver", "teacher"]) as made:
        command = made.command("teacher", [sys.executable, "-c", SERVER])
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            yield made
        finally:
            server.kill()
            server.wait()


class Client:
    """Asks from the driver's host."""

    def __init__(self, hosts: Hosts, deadline: float) -> None:
        url = f"http://{hosts.addresses['teacher']}:8000/v1"
        self.process = subprocess.Popen(
            hosts.command("driver", [sys.executable, "-c", CLIENT, url, str(deadline)]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV, cwd=ROOT,
        )  # fmt: skip

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, questions: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{questions}\n")
        self.process.stdin.flush()

    def says(self) -> object:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def test_requests_are_sent_again_until_the_server_is_back(hosts: Hosts) -> None:
    with Client(hosts, deadline=120.0) as client:
        client.ask(1)
        assert client.says() == ["fine"]
        hosts.unplug("teacher")
        client.ask(8)
        assert client.says() == "again"
        hosts.plug("teacher")
        assert client.says() == ["fine"] * 8


def test_a_server_that_stays_away_ends_requests_and_no_more(hosts: Hosts) -> None:
    with Client(hosts, deadline=6.0) as client:
        hosts.unplug("teacher")
        client.ask(4)
        assert client.says() == "again"
        answers = client.says()
        assert isinstance(answers, list)
        assert len(answers) == 4
        assert all("no answer in 6 s" in answer for answer in answers)
        hosts.plug("teacher")
        client.ask(1)
        assert client.says() == ["fine"]
