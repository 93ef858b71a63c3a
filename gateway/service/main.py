"""
The C{gateway} command: every service and tool under one name::

    gateway tabby --no-auth --port 9000         # the same as: twistd -n tabby-gateway --no-auth --port 9000
    gateway tabby-token new alice --file tokens.toml

A service runs under twistd, in the foreground. What is wrong with the command line is one line on standard
error and exit status 2.
"""

__all__ = ["main"]

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.python import usage

from gateway import __version__


@dataclass(frozen=True, slots=True)
class Command:
    """One word after C{gateway}."""

    help: str
    run: Callable[[Sequence[str]], int]


def _tabby(arguments: Sequence[str]) -> int:
    from gateway.service.tabbyoptions import TabbyOptions

    return _runService("tabby", "tabby-gateway", TabbyOptions(), arguments)


def _relay(arguments: Sequence[str]) -> int:
    from gateway.service.relayoptions import RelayOptions

    return _runService("relay", "relay", RelayOptions(), arguments)


def _agent(arguments: Sequence[str]) -> int:
    from gateway.service.agentoptions import AgentOptions

    return _runService("agent", "gateway-agent", AgentOptions(), arguments)


def _tabbyToken(arguments: Sequence[str]) -> int:
    from gateway.service.tabbytoken import TokenOptions

    options = TokenOptions()
    _parse("tabby-token", options, arguments)
    try:
        return options.run()
    except usage.UsageError as e:
        raise _Refused(f"gateway tabby-token: error: {e}") from None


def _serve(arguments: Sequence[str]) -> int:
    from gateway.service.gatewayoptions import GatewayOptions

    return _runService("serve", "gateway", GatewayOptions(), arguments)


def _gotunnelServer(arguments: Sequence[str]) -> int:
    from gateway.service.gotunnelserveroptions import GoTunnelServerOptions

    return _runService("gotunnel-server", "gotunnel-server", GoTunnelServerOptions(), arguments)


def _gotunnelAgent(arguments: Sequence[str]) -> int:
    from gateway.service.gotunnelagentoptions import GoTunnelAgentOptions

    return _runService("gotunnel-agent", "gotunnel-agent", GoTunnelAgentOptions(), arguments)


def _checkConfig(arguments: Sequence[str]) -> int:
    from gateway.service.checkconfig import CheckOptions

    options = CheckOptions()
    _parse("check-config", options, arguments)
    return options.run()


def _secret(arguments: Sequence[str]) -> int:
    from gateway.service.secretcommand import SecretOptions

    options = SecretOptions()
    _parse("secret", options, arguments)
    return options.run()


COMMANDS = {
    "agent": Command("Run an agent, which attaches to a gateway and leads to what is near it", _agent),
    "serve": Command("Run a gateway that agents attach to", _serve),
    "check-config": Command("Say what is wrong with a configuration, or what it means", _checkConfig),
    "secret": Command("Make a secret for an agent, and the hash that the gateway knows it by", _secret),
    "gotunnel-server": Command("Run a gateway for agents of go-tunnel", _gotunnelServer),
    "gotunnel-agent": Command("Run an agent for a server of go-tunnel, or for ours", _gotunnelAgent),
    "relay": Command("Relay from any endpoint to any other", _relay),
    "tabby": Command("Run a connection gateway for Tabby Web", _tabby),
    "tabby-token": Command("Make, list and revoke the named tokens of a Tabby gateway", _tabbyToken),
}


class _Refused(Exception):
    """The command line is wrong; its text is for the person."""


def _parse(name: str, options: usage.Options, arguments: Sequence[str]) -> None:
    sys.argv[0] = f"gateway {name}"  # what the usage text begins with
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as e:
        raise _Refused(f"gateway {name}: error: {e}\nTry: gateway {name} --help") from None


def _runService(name: str, tapname: str, options: usage.Options, arguments: Sequence[str]) -> int:
    _parse(name, options, arguments)
    if sys.platform == "linux" and "twisted.internet.reactor" not in sys.modules:  # nobody has chosen one
        from gateway.net.epoll import install

        install()
    # Everything else is twistd's: signals, logging, the order of starting and stopping.
    from twisted.application import app
    from twisted.scripts import twistd

    status = 0

    def runApp(config: usage.Options) -> None:
        nonlocal status
        twistd.runApp(config)
        status = getattr(config.subOptions, "exitStatus", 0)

    sys.argv = ["gateway", "--nodaemon", "--pidfile=", tapname, *arguments]
    app.run(runApp, twistd.ServerOptions)  # type: ignore[attr-defined]  # not in its __all__
    return status


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["Usage: gateway COMMAND [options]", "", "Commands:", *lines, "", "gateway COMMAND --help tells more."]
    )


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
        print(f"gateway: error: unknown command {name!r}\n\n{_usage()}" if name else _usage(), file=sys.stderr)
        return 2
    try:
        return COMMANDS[name].run(words)
    except _Refused as e:
        print(e, file=sys.stderr)
        return 2
