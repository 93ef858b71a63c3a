"""
Write the pages of options in C{docs/reference} from the classes that read the command line, so that no page can lag
behind them::

    python -m tests.documents
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from msgspec import NODEFAULT, to_builtins
from msgspec.structs import fields
from twisted.python.usage import Options

from gateway.service.agent.options import AgentOptions
from gateway.service.checkconfig import CheckOptions
from gateway.service.completion import CompletionOptions
from gateway.service.gotunnel.agentoptions import GoTunnelAgentOptions
from gateway.service.gotunnel.config import GoTunnelAgentFile, TunnelSection
from gateway.service.gotunnel.serveroptions import GoTunnelServerOptions
from gateway.service.networkrelay.accessclientoptions import AccessClientOptions
from gateway.service.networkrelay.edgeagentoptions import EdgeAgentOptions
from gateway.service.networkrelay.relayoptions import NetworkRelayOptions
from gateway.service.networkrelay.sshconfig import SshConfigOptions
from gateway.service.options import CommandOptions
from gateway.service.pipegate.clientoptions import PipeGateClientOptions
from gateway.service.pipegate.serveroptions import PipeGateServerOptions
from gateway.service.quickstart import QuickStartOptions
from gateway.service.relay.options import RelayOptions
from gateway.service.secretcommand import HashOptions, SecretOptions
from gateway.service.server.options import GatewayOptions
from gateway.service.tabby.options import TabbyOptions
from gateway.service.tabby.tokencommand import TokenOptions
from tests.tomldocuments import keyTexts

__all__ = ["DOCUMENTS", "GATEWAY_COMMANDS", "Document", "TokenCommand", "optionNames", "tokenCommands"]

_REFERENCE = Path(__file__).resolve().parents[1] / "docs/reference"

_TABBY_GROUPS: Mapping[str, Sequence[str]] = {
    "Who may come in": ("token-auth", "tokens", "no-auth", "state"),
    "Where to listen": ("host", "port", "listen", "public-url", "trusted-proxy"),
    "TLS": ("certificate", "private-key", "ca"),
    "Which targets": ("allow", "deny"),
    "Which pages": ("origin", "allowed-host"),
    "Management and metrics": (
        "admin-host",
        "admin-port",
        "admin-certificate",
        "admin-private-key",
        "admin-ca",
        "one-shot-ttl",
        "one-shot-limit",
        "metrics-listen",
    ),
    "Times": ("handshake-timeout", "connect-timeout", "idle-timeout", "ping-interval", "drain"),
    "Limits": (
        "max-unauthenticated",
        "max-unauthenticated-per-address",
        "max-per-address",
        "new-per-second",
        "new-per-second-per-address",
        "ban-after",
        "ban-seconds",
        "stall-memory",
    ),
    "The rest": ("log-format", "help", "version"),
}
"""Every option of C{gateway tabby}, in the order in which a person needs them."""

_RELAY_GROUPS: Mapping[str, Sequence[str]] = {
    "From where to where": ("listen", "to"),
    "Times": ("dial-timeout", "idle-timeout", "drain"),
    "Limits": ("max-connections", "memory"),
    "The rest": ("log-format", "help", "version"),
}
"""The same of C{gateway relay}."""

_TABBY = """\
# Options

`gateway tabby OPTIONS` and `twistd -n tabby-gateway OPTIONS` take the same options, which are all on this page. An option
that takes a value is written `--port 9000` or `--port=9000`.

One of `--token-auth`, `--tokens`, `--no-auth`, `--admin-port` and `--state` is required: it says who may come in. A wrong
command line, or a file that cannot be used, ends `gateway tabby` with one line on standard error and exit status 2. A port
that cannot be had ends it with one line in the log and exit status 1.

This page is generated: run `python -m tests.documents`.
"""

_RELAY = """\
# Options of the relay

`gateway relay OPTIONS` and `twistd -n relay OPTIONS` take the same options, which are all on this page. An option that takes a
value is written `--drain 30` or `--drain=30`. `--listen` and `--to` are required; what they take is on the page of
[endpoints](endpoints.md).

A wrong command line, or an endpoint that cannot be used, ends `gateway relay` with one line on standard error and exit status 2. A
port that cannot be had ends it with one line in the log and exit status 1. At SIGTERM and Ctrl-C it takes no more connections and
gives those that there are some time to end; a second Ctrl-C takes it from them.

This page is generated: run `python -m tests.documents`.
"""

_SERVE = """\
# Options of the gateway

`gateway serve OPTIONS` and `twistd -n gateway OPTIONS` take the same options. Everything else is in
[gateway.toml](gateway-toml.md) or the environment.

This page is generated: run `python -m tests.documents`.
"""

_AGENT = """\
# Options of the agent

`gateway agent OPTIONS` and `twistd -n gateway-agent OPTIONS` take the same options. Without `--config` they make up the whole
configuration, together with the environment; with it they win over [agent.toml](agent-toml.md), but services and targets are in the
file then.

A service is written `PUBLIC=ORIGIN`. PUBLIC is a port, or one name or several with commas between them, and with `--http` a name that
begins with a slash is a prefix of paths at the gateway's own name; ORIGIN is `HOST:PORT`, `PORT` of the agent's machine, or `unix:/PATH`.
In `web:app.example.com=127.0.0.1:8080` the service has a key, `web`, by which logs and streams name it; otherwise the key is made of the
name or port. A secret is never on the command line, where every user of the machine could see it: it is in a file, or in the variable
`GATEWAY_SECRET` or `GATEWAY_JWT`.

This page is generated: run `python -m tests.documents`.
"""

_AGENT_GROUPS: Mapping[str, Sequence[str]] = {
    "Which gateway": ("config", "to", "ca", "pin", "proxy"),
    "Who the agent is": ("name", "replica", "secret-file", "jwt-file", "certificate", "private-key"),
    "What is served": ("http", "tls", "tcp", "udp", "allow-target"),
    "The rest": ("drain", "log-format", "help", "version"),
}

_GOTUNNEL_SERVER = """\
# Settings of go-tunnel's server

`gateway gotunnel-server OPTIONS` and `twistd -n gotunnel-server OPTIONS` take the same options. Most of what the server is told is in
variables, which come from the environment or from the file of `--env-file`; the environment wins.

What cannot be used ends the command with one line on standard error, which names the variable, and exit status 2. SIGHUP reads the
variables and the files again: certificates, `JWT_SECRET` and `ALLOWED_HOSTS` change without a restart. Agents that are here stay.

This page is generated: run `python -m tests.documents`.
"""

_GOTUNNEL_VARIABLES = """
## Variables

| variable | default | what it says |
|---|---|---|
| `GATEWAY_HOST`, `SERVER_DOMAIN` | | the gateway's own name, under which the dashboard is shown. With both spellings the first counts |
| `GATEWAY_PORT`, `SERVER_PORT` | 443 | the port for visitors, by TLS |
| `TUNNEL_HOST` | `GATEWAY_HOST` | whose certificate agents see that ask for a name without one |
| `TUNNEL_PORT` | 9443 | the port for agents, by TLS |
| `DASHBOARD_PORT` | 8080 | the port of the dashboard, which also has `/metrics`, `/healthz` and `/readyz` |
| `DASHBOARD_PASSWORD_HASH` | | the hash of a password for it, as `gateway secret` prints it. Without one it is on 127.0.0.1 alone |
| `JWT_SECRET` | | what the agents' tokens are signed with. There has to be one, and there is no default; take 32 characters or more |
| `ALLOWED_HOSTS` | `*` | names that agents may register, with commas between them; `*.example.com` is every name one label below |
| `CERT_FILE`, `KEY_FILE` | | PEM files of a certificate with its chain, and of its key. It is shown for the names in it |
| `CERT_DIR` | | a directory of PEM files with a certificate, its chain and its key each, such as go-tunnel's `ACME_CACHE` |
| `ACME_CACHE`, `ACME_ENV` | | not used: certificates are not fetched by ACME yet |

Every other key of [gateway.toml](gateway-toml.md) has its variable here, too: `GATEWAY_LIMITS_PING_INTERVAL=30`, or
`GATEWAY_HTTP_LISTEN=0.0.0.0:80` for visitors without TLS.
"""

_GOTUNNEL_SERVER_GROUPS: Mapping[str, Sequence[str]] = {
    "Options": (
        "env-file",
        "certificate",
        "private-key",
        "certificate-directory",
        "interface",
        "log-format",
        "help",
        "version",
    ),
}

_GOTUNNEL_AGENT = """\
# Settings of go-tunnel's agent

`gateway gotunnel-agent OPTIONS` and `twistd -n gotunnel-agent OPTIONS` take the same options. The rest is in the file of
`--config`, which is that of go-tunnel's agent. What cannot be used ends the command with one line on standard error, which names the key,
and exit status 2.

This page is generated: run `python -m tests.documents`.
"""

_GOTUNNEL_AGENT_GROUPS: Mapping[str, Sequence[str]] = {
    "Options": ("config", "ca", "drain", "log-format", "help", "version"),
}

_NETWORK_RELAY = """\
# Options of the network relay

`gateway network-relay OPTIONS`, `network-relay OPTIONS` and `twistd -n network-relay OPTIONS` take the same options, those of
http-network-relay's relay, and its variables, over which options win. How to come from there is told in
[Move from http-network-relay](../howto/move-from-http-network-relay.md).

It is a gateway with nothing but a relay. Other variables of [gateway.toml](gateway-toml.md) count, too, such as
`GATEWAY_LIMITS_CONNECT_TIMEOUT`, or `GATEWAY_MANAGEMENT_LISTEN=127.0.0.1:9080` for metrics; and there [`[networkrelay]`](gateway-toml.md#networkrelay) opens the same door beside others.

What cannot be used ends the command with one line on standard error and exit status 2.

This page is generated: run `python -m tests.documents`.
"""

_NETWORK_RELAY_GROUPS: Mapping[str, Sequence[str]] = {
    "Options": ("host", "port", "credentials-file", "log-format", "help", "version"),
}

_CREDENTIALS = """
## The credentials file

It is JSON. The first two keys are those of http-network-relay, and all that it knows; the others may be left out. What is nearly one of
these, and so misspelt, is refused; other keys are let alone, as http-network-relay lets them.

| key | what it says |
|---|---|
| `edge-agents` | the secret of each edge agent, by its name |
| `access-client-secrets` | a list of secrets, of access clients that may go everywhere |
| `edge-agent-targets` | [rules](target-rules.md) for what may be reached through an agent, by its name; without, everything |
| `access-clients` | other access clients, by a name for the log: `secret`, `agents` (a list of names; without, all) and `targets` (rules; without, everything) |

A secret may be there as its hash, as `gateway secret` prints it for a new one and `gateway hash-secret` for one that there is.

```json
{
  "edge-agents": {"box": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
  "access-client-secrets": [],
  "edge-agent-targets": {"box": ["allow 127.0.0.1:22", "allow 10.0.0.0/8:22"]},
  "access-clients": {
    "alice": {
      "secret": "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
      "agents": ["box"],
      "targets": ["allow 127.0.0.1:22"]
    }
  }
}
```

The rules of the client and those of the agent must both allow a connection. Those of an agent count at every door of the gateway. A relay
does not look up names, the agent does; so a rule about a network allows no name, and one that denies a network denies every name that
no rule before it allows. An edge agent of ours has [rules of its own](edge-agent-options.md) besides, for what a name leads to.

The file is looked at every two seconds. When it has changed, sessions end whose secrets are not in it any more, and what is connected
from then on is held to the new rules. A file that cannot be used changes nothing, and the log says what is wrong with it.
"""

_EDGE_AGENT = """\
# Options of the edge agent

`gateway edge-agent OPTIONS`, `edge-agent OPTIONS` and `twistd -n edge-agent OPTIONS` take the same options, those of
http-network-relay's edge agent among them. How to use it is told in [ssh to a box](../howto/ssh-to-a-box.md).

With `--allow` people reach what one of the [rules](target-rules.md) allows, and nothing else; as everywhere, addresses of this machine
and of private networks are among that only where a rule names them, or a network inside theirs. Without `--allow` they reach all that
the agent does, as with http-network-relay.

What cannot be used ends the command with one line on standard error and exit status 2. A relay that cannot be reached, or sends the
agent away, is tried again after a second, then two, and so on up to a minute.

This page is generated: run `python -m tests.documents`.
"""

_EDGE_AGENT_GROUPS: Mapping[str, Sequence[str]] = {
    "Which relay": ("relay-url", "ca", "pin"),
    "Who the agent is": ("name", "secret-file", "secret"),
    "Who reaches what": ("allow",),
    "The rest": ("drain", "log-format", "help", "version"),
}

_ACCESS_CLIENT = """\
# Options of the access client

`gateway access-client AGENT HOST PORT PROTOCOL OPTIONS` and `access-client AGENT HOST PORT PROTOCOL OPTIONS` take the same options, those
of http-network-relay's access client among them; options may stand before, between and behind the words. AGENT is the name of an edge
agent, HOST and PORT are what it is to connect to, as it sees it, and PROTOCOL is `tcp` or `udp`. How to use it is told in
[ssh to a box](../howto/ssh-to-a-box.md).

Standard input and output are the connection. With `udp` each datagram is its length in two bytes, the higher one first, and its payload,
in both directions. The exit status is 0 when the connection came to a proper end, 1 when it did not or there was none, which one line on
standard error says, and 2 when the command line is wrong. With `--listen` it runs until it is ended.

This page is generated: run `python -m tests.documents`.
"""

_ACCESS_CLIENT_GROUPS: Mapping[str, Sequence[str]] = {
    "Which relay": ("relay-url", "ca", "pin"),
    "Who we are": ("secret-file", "secret"),
    "The rest": ("listen", "log-format", "help", "version"),
}


_PIPEGATE_SERVER = """\
# Options of PipeGate's server

`gateway pipegate-server OPTIONS` and `twistd -n pipegate-server OPTIONS` take the same options, those of PipeGate's server among them. How
to come from there is told in [Move from PipeGate](../howto/move-from-pipegate.md).

It is a gateway with one port. The variables of [gateway.toml](gateway-toml.md) count, too, such as `GATEWAY_LIMITS_BODY_BYTES`, or
`GATEWAY_MANAGEMENT_LISTEN=127.0.0.1:9080` for metrics and a page that shows who is here.

What cannot be used ends the command with one line on standard error and exit status 2. A port that cannot be had ends it with one line in
the log and exit status 1.

This page is generated: run `python -m tests.documents`.
"""

_PIPEGATE_SERVER_GROUPS: Mapping[str, Sequence[str]] = {
    "Who may come in": ("client-token", "tokens", "share"),
    "Where to listen": ("port", "interface", "domain", "ssl-certfile", "ssl-keyfile", "trusted-proxy"),
    "Limits": ("timeout", "max-message"),
    "The rest": ("access-log", "access-log-format", "drain", "log-format", "help", "version"),
}

_PIPEGATE_CLIENT = """\
# Options of PipeGate's client

`gateway pipegate-client OPTIONS` and `twistd -n pipegate-client OPTIONS` take the same options, those of PipeGate's client among them. How
to come from there is told in [Move from PipeGate](../howto/move-from-pipegate.md).

What cannot be used ends the command with one line on standard error and exit status 2. A server that cannot be reached, or sends the
client away, is tried again, at first soon and then with pauses of up to half a minute. A wrong token is no reason to stop, either.

This page is generated: run `python -m tests.documents`.
"""

_PIPEGATE_CLIENT_GROUPS: Mapping[str, Sequence[str]] = {
    "What is published, and where": ("local-url", "server-url", "client-token"),
    "Whom to believe": ("ca", "pin", "local-ca"),
    "The rest": ("drain", "log-format", "help", "version"),
}


def _sshConfigLines() -> Iterator[str]:
    options = SshConfigOptions()
    yield from ("", "## gateway ssh-config AGENT", "", _markUp(options.longdesc))
    names = ("target", "host", "user", "access-client", "relay-url", "secret-file", "ca", "pin")
    yield from _table(options, names)


_TOKENS = """
## The command gateway tabby-token

It makes, lists and revokes the named tokens in a [tokens file](tokens-file.md). A running gateway takes the changed file at
SIGHUP; revoking a token then ends its sessions.
"""


def optionNames(options: Options) -> list[str]:
    """The long names of a command's options, without dashes, in alphabetical order."""
    return sorted(name.rstrip("=") for name in options.longOpt)


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """A word after C{gateway tabby-token}, as twisted's C{subCommands} has it."""

    name: str
    options: Callable[[], Options]
    help: str


def tokenCommands() -> list[TokenCommand]:
    """All of them, in order."""
    rows = cast(list[list[Any]], TokenOptions.subCommands)
    return [TokenCommand(name, options, text) for name, _, options, text in rows]


@dataclass(frozen=True, slots=True)
class Document:
    """
    A page of options.

    @ivar options: the class that reads the command line.
    @ivar groups: every option of it, in the order in which a person needs them.
    @ivar rest: what comes after that.
    """

    path: Path
    introduction: str
    options: Callable[[], Options]
    groups: Mapping[str, Sequence[str]]
    rest: Callable[[], Iterator[str]] = lambda: iter(())

    def generate(self) -> str:
        """Return the whole document."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield self.introduction.rstrip("\n")
        options = self.options()
        for heading, names in self.groups.items():
            yield from ("", f"## {heading}", *_table(options, names))
        yield from self.rest()


def _tokenLines() -> Iterator[str]:
    yield _TOKENS.rstrip("\n")
    for command in tokenCommands():
        name = "" if command.name == "list" else " NAME"
        options = command.options()
        names = [each for each in optionNames(options) if each not in ("help", "version")]
        yield from (
            "",
            f"### gateway tabby-token {command.name}{name}",
            "",
            f"{command.help}.",
            *_table(options, names),
        )


def _keyLines() -> Iterator[str]:
    for title, section in (("config.yaml", GoTunnelAgentFile), ("Each of tunnels", TunnelSection)):
        yield from ("", f"## {title}", "", "| key | default | what it says |", "|---|---|---|")
        for name, field in zip(section.__struct_encode_fields__, fields(section), strict=True):
            default = "" if field.default in (NODEFAULT, "") else f"`{to_builtins(field.default)}`".lower()
            yield f"| `{name}` | {default} | {keyTexts(section)[field.name]} |"


def _table(options: Options, names: Sequence[str]) -> Iterator[str]:
    yield from ("", "| option | default | what it says |", "|---|---|---|")
    for name in names:
        text, _, own = " ".join(options.docs[name].split()).partition(" [default: ")
        default = own.rstrip("]") or options.defaults.get(name)
        shown = "" if default is None or name not in _withValue(options) else _markUp(str(default))
        value = " VALUE" if name in _withValue(options) else ""
        yield f"| `--{name}{value}` | {shown} | {_markUp(text)} |"


def _withValue(options: Options) -> set[str]:
    return {name.rstrip("=") for name in options.longOpt if name.endswith("=")}


def _markUp(text: str) -> str:
    """Names of options as code, or two hyphens would become a dash; nothing else is markup."""
    escaped = re.sub(r"([*_<>|\[\]])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--[a-z-]+[a-z])", r"`\1`", escaped)


GATEWAY_COMMANDS: Mapping[str, Callable[[], CommandOptions]] = {
    "serve": GatewayOptions,
    "check-config": CheckOptions,
    "secret": SecretOptions,
    "hash-secret": HashOptions,
    "quick-start": QuickStartOptions,
    "completion": CompletionOptions,
}
"""The commands around C{gateway.toml}."""


def _gatewayLines() -> Iterator[str]:
    for name in [each for each in GATEWAY_COMMANDS if each != "serve"]:
        options = GATEWAY_COMMANDS[name]()
        yield from ("", f"## gateway {name}", "", _markUp(options.longdesc))
        yield from _table(
            options, [each for each in optionNames(options) if each not in ("help", "version")] or ["help"]
        )


DOCUMENTS = (
    Document(_REFERENCE / "agent-options.md", _AGENT, AgentOptions, _AGENT_GROUPS),
    Document(
        _REFERENCE / "gateway-options.md",
        _SERVE,
        GatewayOptions,
        {"gateway serve": ("config", "log-format", "help", "version")},
        _gatewayLines,
    ),
    Document(
        _REFERENCE / "gotunnel-settings.md",
        _GOTUNNEL_SERVER,
        GoTunnelServerOptions,
        _GOTUNNEL_SERVER_GROUPS,
        lambda: iter([_GOTUNNEL_VARIABLES.rstrip("\n")]),
    ),
    Document(
        _REFERENCE / "gotunnel-agent-settings.md",
        _GOTUNNEL_AGENT,
        GoTunnelAgentOptions,
        _GOTUNNEL_AGENT_GROUPS,
        _keyLines,
    ),
    Document(
        _REFERENCE / "network-relay-options.md",
        _NETWORK_RELAY,
        NetworkRelayOptions,
        _NETWORK_RELAY_GROUPS,
        lambda: iter([_CREDENTIALS.rstrip("\n")]),
    ),
    Document(_REFERENCE / "edge-agent-options.md", _EDGE_AGENT, EdgeAgentOptions, _EDGE_AGENT_GROUPS),
    Document(
        _REFERENCE / "access-client-options.md",
        _ACCESS_CLIENT,
        AccessClientOptions,
        _ACCESS_CLIENT_GROUPS,
        _sshConfigLines,
    ),
    Document(
        _REFERENCE / "pipegate-server-options.md", _PIPEGATE_SERVER, PipeGateServerOptions, _PIPEGATE_SERVER_GROUPS
    ),
    Document(
        _REFERENCE / "pipegate-client-options.md", _PIPEGATE_CLIENT, PipeGateClientOptions, _PIPEGATE_CLIENT_GROUPS
    ),
    Document(_REFERENCE / "tabby-options.md", _TABBY, TabbyOptions, _TABBY_GROUPS, _tokenLines),
    Document(_REFERENCE / "relay-options.md", _RELAY, RelayOptions, _RELAY_GROUPS),
)

if __name__ == "__main__":
    for document in DOCUMENTS:
        document.path.write_text(document.generate(), encoding="utf-8")
