"""The page about other services is true: each of its tasks runs on a server that is configured as it says."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from websockets.sync.server import ServerConnection, serve

from tests.docs_site import here, merged
from tests.documents import text
from tests.grpc_server import grpc_server
from tests.lazy_modules import LazyModule
from tests.mail_server import MailServer, mail_server
from tests.servers import Server, new_database, running_server
from tests.tasks.executors.conftest import Web, serving
from tests.tasks.executors.scrape.test_scrape import HTML
from tests.tasks.executors.scrape.test_scrape import PAGE as RIVER

ssh = LazyModule("tests.ssh_server")
Json = dict[str, Any]
PAGE: Final = "docs/how-to/call-services.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The server, and what stands for the services of the page."""

    server: Server
    mails: MailServer
    web: Web
    addresses: Mapping[str, str]

    def executed(self, heading: str) -> Json:
        """The root of the tree under the heading, when it is over."""
        tree = json.loads(here(text(PAGE, heading, "json"), self.addresses))
        reply: Json = self.server.rpc("tasks.execute", {"tasks": tree, "wait": True})["task"]
        return reply


@contextmanager
def websocket() -> Iterator[str]:
    """The URL of a server that answers each message with it."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, open_timeout=60) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, open_server: Server) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("services")
    with ExitStack() as peers:
        mails = peers.enter_context(mail_server())
        settings = yaml.safe_load(here(text(PAGE, "Send e-mail", "yaml"), {"smtp.example.com": "127.0.0.1"}))
        settings = merged(settings, {"email": {"port": mails.port, "security": "none"}})
        web = peers.enter_context(serving(Web()))
        greeter = peers.enter_context(grpc_server())
        quotes = peers.enter_context(websocket())
        addresses = {
            "https://example.com": web.url,
            "wss://quotes.example.com/": quotes,
            "https://flow.example.com": open_server.url,
        }
        ports = [urlsplit(address).port for address in addresses.values()] + [greeter.port]
        addresses |= {
            "grpc.example.com:443": f"127.0.0.1:{greeter.port}",
            '"method": "SayHello"': '"tls": false, "method": "SayHello"',
        }
        settings["executors"] = {"rest": {"allow_private": ["127.0.0.1"], "allowed_ports": ports}}
        host = peers.enter_context(ssh.ssh_server(folder))
        theirs = {
            "build.example.com": f"127.0.0.1:{host.port}",
            "/etc/aipartnerupflow/ssh_key": str(host.client_key),
            "/etc/aipartnerupflow/known_hosts": str(host.known_hosts),
        }
        settings = merged(settings, yaml.safe_load(here(text(PAGE, "Run a command on another host", "yaml"), theirs)))
        (folder / "config.yaml").write_text(json.dumps(settings))
        env = {"AIPARTNERUPFLOW_CONFIG": str(folder / "config.yaml")}
        server = peers.enter_context(running_server(peers.enter_context(new_database()), env=env))
        yield Site(server=server, mails=mails, web=web, addresses=addresses)


def test_a_mail_is_sent(site: Site) -> None:
    report = site.executed("Send e-mail")
    (mail,) = site.mails.received
    assert (mail["To"], mail["Subject"], mail.get_content().strip()) == (
        "ops@example.com",
        "The report",
        "It is ready.",
    )
    assert report["result"] == {"message_id": mail["Message-ID"], "recipients": 1}


def test_a_mail_that_the_operator_does_not_allow_is_refused_before_anything_is_stored(site: Site) -> None:
    mail = {"to": "x@elsewhere.org", "subject": "s", "body": "b"}
    task = {"id": "never", "name": "Never", "schemas": {"method": "send_email_executor"}, "inputs": mail}
    refusal = site.server.call("tasks.create", task)["error"]
    assert refusal["data"][0]["field"] == "tasks[0].inputs.to"
    assert "error" in site.server.call("tasks.get", {"task_id": "never"})


def test_a_websocket_answers(site: Site) -> None:
    quote = site.executed("Talk to a WebSocket")
    assert (quote["status"], quote["result"]["response"]) == ("completed", {"symbol": "ACME"})


def test_another_server_runs_a_flow(site: Site, open_server: Server) -> None:
    greet = {"name": "echo_executor", "inputs": {"text": "Hello {{run.inputs.name}}"}}
    open_server.rpc("flows.save", {"name": "greet", "tasks": greet})
    site.server.rpc("secrets.set", {"name": "flow_token", "value": "a-token-of-there"}, path="/system")
    greeting = site.executed("Run trees on another server")
    assert (greeting["result"]["result"], greeting["result"]["status"]) == ({"text": "Hello Ada"}, "completed")


def test_a_page_is_read(site: Site) -> None:
    site.web.answer(200, RIVER, Content_Type=HTML)
    page = site.executed("Read a web page")["result"]
    assert (page["title"], page["author"], len(page["text"]) <= 2000) == ("The river", "Ada Lovelace", True)


def test_a_command_runs_there(site: Site) -> None:
    release = site.executed("Run a command on another host")
    assert release["result"] == {"return_code": 0, "stdout": f"{socket.gethostname()}\n", "stderr": ""}


def test_a_method_is_called(site: Site) -> None:
    hello = site.executed("Call a gRPC method")
    assert hello["result"] == {"response": {"message": "Hello Ada"}}
