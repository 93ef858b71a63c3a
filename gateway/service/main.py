"""
The C{gateway} command: every service and tool under one name::

    gateway tabby --no-auth --port 9000         # the same as: twistd -n tabby-gateway --no-auth --port 9000
    gateway tabby-token new alice --file tokens.toml

A service runs as under twistd, in the foreground, and when it was stopped by a signal its exit status is 0. What is
wrong with the command line is one line on standard error and exit status 2.
"""

__all__ = ["COMMANDS", "GROUPS", "Command", "accessClient", "edgeAgent", "main", "networkRelay"]

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway import __version__

if TYPE_CHECKING:
    from twisted.python import usage


@dataclass(frozen=True, slots=True)
class Command:
    """
    One word after C{gateway}.

    @ivar options: where the class that reads its command line is, in this package; imported when it is needed.
    @ivar service: its name among twistd's; a command that is no service is what its options' C{run} does.
    """

    help: str
    options: str
    service: str = ""

    def makeOptions(self) -> "usage.Options":
        """What reads its command line."""
        from twisted.python.reflect import namedAny

        options: usage.Options = namedAny(f"gateway.service.{self.options}")()
        return options


COMMANDS = {
    "quick-start": Command(
        "Make all files that a first gateway and its first agent need", "quickstart.QuickStartOptions"
    ),
    "agent": Command(
        "Run an agent, which attaches to a gateway and leads to what is near it",
        "agent.options.AgentOptions",
        "gateway-agent",
    ),
    "serve": Command("Run a gateway that agents attach to", "server.options.GatewayOptions", "gateway"),
    "check-config": Command("Say what is wrong with a configuration, or what it means", "checkconfig.CheckOptions"),
    "secret": Command(
        "Make a secret for an agent, and the hash that the gateway knows it by", "secretcommand.SecretOptions"
    ),
    "hash-secret": Command("Print the hash of a secret that there is already", "secretcommand.HashOptions"),
    "gotunnel-server": Command(
        "Run a gateway for agents of go-tunnel", "gotunnel.serveroptions.GoTunnelServerOptions", "gotunnel-server"
    ),
    "gotunnel-agent": Command(
        "Run an agent for a server of go-tunnel, or for ours",
        "gotunnel.agentoptions.GoTunnelAgentOptions",
        "gotunnel-agent",
    ),
    "network-relay": Command(
        "Run a network relay, for edge agents and access clients",
        "networkrelay.relayoptions.NetworkRelayOptions",
        "network-relay",
    ),
    "edge-agent": Command(
        "Run an edge agent, which leads those who come through a network relay to what is near it",
        "networkrelay.edgeagentoptions.EdgeAgentOptions",
        "edge-agent",
    ),
    "access-client": Command(
        "Connect to what is behind an edge agent, as ssh's ProxyCommand does",
        "networkrelay.accessclientoptions.AccessClientOptions",
    ),
    "ssh-config": Command(
        "Print what makes ssh reach a machine behind an edge agent", "networkrelay.sshconfig.SshConfigOptions"
    ),
    "pipegate-server": Command(
        "Run a server for clients of PipeGate", "pipegate.serveroptions.PipeGateServerOptions", "pipegate-server"
    ),
    "pipegate-client": Command(
        "Run a client for a server of PipeGate, or for ours",
        "pipegate.clientoptions.PipeGateClientOptions",
        "pipegate-client",
    ),
    "relay": Command("Relay from any endpoint to any other", "relay.options.RelayOptions", "relay"),
    "tabby": Command("Run a connection gateway for Tabby Web", "tabby.options.TabbyOptions", "tabby-gateway"),
    "tabby-token": Command(
        "Make, list and revoke the named tokens of a Tabby gateway", "tabby.tokencommand.TokenOptions"
    ),
    "completion": Command("Print what makes a shell complete all this", "completion.CompletionOptions"),
}


GROUPS = {
    "A tunnel": ("quick-start", "agent", "serve", "check-config", "secret", "hash-secret"),
    "A gateway for Tabby Web": ("tabby", "tabby-token"),
    "A relay": ("relay",),
    "In place of http-network-relay": ("network-relay", "edge-agent", "access-client", "ssh-config"),
    "In place of PipeGate": ("pipegate-server", "pipegate-client"),
    "In place of go-tunnel": ("gotunnel-server", "gotunnel-agent"),
    "For the shell": ("completion",),
}
"""What C{gateway --help} shows together."""


def _runService(service: str, arguments: Sequence[str]) -> int:
    if sys.platform == "linux" and "twisted.internet.reactor" not in sys.modules:  # nobody has chosen one
        from gateway.net.epoll import install

        install()
    # Nearly everything else is twistd's: signals, logging, the order of starting and stopping.
    from twisted.application import app
    from twisted.scripts import twistd

    from gateway.service.foreground import ForegroundRunner

    status = 0

    def runApp(config: "usage.Options") -> None:
        nonlocal status
        ForegroundRunner(config).run()
        status = getattr(config.subOptions, "exitStatus", 0)

    sys.argv = ["gateway", "--nodaemon", "--pidfile=", service, *arguments]
    app.run(runApp, twistd.ServerOptions)  # type: ignore[attr-defined]  # not in its __all__
    return status


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = ["Usage: gateway COMMAND [options]"]
    for heading, names in GROUPS.items():
        lines += ["", f"{heading}:", *(f"  {name:<{width}}  {COMMANDS[name].help}" for name in names)]
    return "\n".join([*lines, "", "gateway COMMAND --help tells more."])


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, 1)
    return f"unknown command {name!r}" + (f"; did you mean {near[0]}?" if near else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    @param arguments: the command line without the program's name; C{None}: this process's own.
    @return: the exit status: 0, 1 when a command failed, 2 when the command line is wrong.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words.pop(0) if words else ""
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name in ("-V", "--version", "version"):
        print(f"txgateway {__version__}")
        return 0
    if name not in COMMANDS:
        problem = f"gateway: error: {_unknown(name)}\nTry: gateway --help" if name else _usage()
        print(problem, file=sys.stderr)
        return 2
    # What is imported from here on stays, and to look through it for garbage, again and again, is a fifth of what an
    # access client does until its first byte. Who goes on for long has it looked for again once all is there.
    gc.disable()
    try:
        return _run(name, words)
    finally:
        gc.enable()


def _run(name: str, words: Sequence[str]) -> int:
    from twisted.python import usage  # not for --help, which it would make wait for most of its time

    command = COMMANDS[name]
    options: Any = command.makeOptions()
    sys.argv[0] = f"gateway {name}"  # what the usage text begins with
    try:
        options.parseOptions(words)
    except usage.UsageError as e:
        print(f"gateway {name}: error: {e}\nTry: gateway {name} --help", file=sys.stderr)
        return 2
    if command.service:
        return _runService(command.service, words)
    try:
        return int(options.run())
    except usage.UsageError as e:
        print(f"gateway {name}: error: {e}", file=sys.stderr)
        return 2


def accessClient() -> int:
    """C{access-client}, as http-network-relay calls it."""
    return main(["access-client", *sys.argv[1:]])


def edgeAgent() -> int:
    """C{edge-agent}, the same."""
    return main(["edge-agent", *sys.argv[1:]])


def networkRelay() -> int:
    """C{network-relay}, the same."""
    return main(["network-relay", *sys.argv[1:]])
