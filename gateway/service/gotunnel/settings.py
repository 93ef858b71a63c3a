"""
The settings of go-tunnel's server: the variables of its C{.env}, in both spellings that there were, and a few of ours.

It is a gateway like any other, with one more dialect for agents; so what go-tunnel's variables say becomes a gateway's
configuration, and each of its other keys can come from the environment, too::

    settings = readServerSettings({"GATEWAY_HOST": "gw.example.com", "JWT_SECRET": "...", "CERT_DIR": "certificates"})
    settings.gateway.tlsListen      # where visitors come in
"""

__all__ = ["ACME", "GoTunnelServerSettings", "readServerSettings", "readVariables"]

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from dotenv import dotenv_values

from gateway.domain.addresses import joinPort, normaliseHost, parseAddress, parsePort
from gateway.domain.gotunnel import GoTunnelTokens
from gateway.domain.grant import ANY_NAME, Grant
from gateway.service.configuration import ConfigurationError, asVariable
from gateway.service.server.settings import GatewaySettings, GoTunnelAgents, Listen, parseListen, readGatewaySettings
from gateway.wire.hostname import isHostName

ACME = ("ACME_CACHE", "ACME_ENV")
"""Variables of the original's that are of no use here."""

_HOST = ("GATEWAY_HOST", "SERVER_DOMAIN")
_PORT = ("GATEWAY_PORT", "SERVER_PORT")


@dataclass(frozen=True, slots=True)
class GoTunnelServerSettings:
    """
    All that a server is told.

    @ivar gateway: with the secret and the names of go-tunnel's agents.
    @ivar tunnelListen: where agents come in.
    @ivar tunnelHost: whose certificate is for agents that ask for none of another name; may be empty.
    """

    gateway: GatewaySettings
    tunnelListen: Listen
    tunnelHost: str


def readVariables(path: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """
    @param path: of a file of lines such as C{JWT_SECRET=...}; C{None}: there is none.
    @param environ: wins over the file.
    @raise ConfigurationError: the file cannot be read.
    """
    if path is None:
        return dict(environ)
    try:
        with Path(path).open(encoding="utf-8") as file:
            found = dotenv_values(stream=file)
    except OSError as e:
        raise ConfigurationError(f"{path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8") from None
    return {name: value for name, value in found.items() if value is not None} | dict(environ)


def _first(variables: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that says something, and what; the first name and nothing if none does."""
    return next(((name, value) for name in names if (value := variables.get(name, "").strip())), (names[0], ""))


def _port(variables: Mapping[str, str], default: int, *names: str) -> int:
    name, text = _first(variables, *names)
    try:
        return parsePort(text) if text else default
    except ValueError as e:
        raise ConfigurationError(f"{name}: {e}") from None


def _host(variables: Mapping[str, str], *names: str) -> str:
    name, text = _first(variables, *names)
    try:
        return normaliseHost(text) if text else ""
    except ValueError as e:
        raise ConfigurationError(f"{name}: {e}") from None


def _grant(variables: Mapping[str, str]) -> Grant:
    names = []
    for word in variables.get("ALLOWED_HOSTS", "").replace(",", " ").lower().split():
        if word != ANY_NAME and not isHostName(word.removeprefix("*.")):
            raise ConfigurationError(f"ALLOWED_HOSTS: {word!a:.80} is neither a host name nor *.NAME")
        names.append(word)
    return Grant(hostnames=tuple(names) or (ANY_NAME,))


# -- Certificates


def _names(path: Path) -> tuple[str, ...]:
    """The host names in a certificate."""
    try:
        with path.open("rb") as file:
            certificate = x509.load_pem_x509_certificates(file.read(1024 * 1024))[0]
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except OSError as e:
        raise ConfigurationError(f"{path}: {e.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{path}: not a certificate in PEM") from None
    except x509.ExtensionNotFound:
        alternatives = x509.SubjectAlternativeName([])
    names = (name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
    found = tuple(name for name in names if isHostName(name.removeprefix("*.")))
    if not found:
        raise ConfigurationError(f"{path}: there is no host name in this certificate")
    return found


def _inDirectory(directory: Path) -> list[Path]:
    """
    Files that hold a certificate and its key each. So does go-tunnel's own cache of certificates, where what is
    something else has a plus in its name.
    """
    try:
        return sorted(each for each in directory.iterdir() if each.is_file() and not re.match(r"\.|.*\+", each.name))
    except OSError as e:
        raise ConfigurationError(f"CERT_DIR: {directory}: {e.strerror}") from None


def _certificates(variables: Mapping[str, str]) -> list[dict[str, object]]:
    certificate, key, directory = (variables.get(name, "").strip() for name in ("CERT_FILE", "KEY_FILE", "CERT_DIR"))
    if bool(certificate) != bool(key):
        raise ConfigurationError("CERT_FILE and KEY_FILE: one is of no use without the other")
    pairs = [(Path(certificate), Path(key))] if certificate else []
    if directory:
        pairs += [(path, path) for path in _inDirectory(Path(directory))]
        if not pairs:
            raise ConfigurationError(f"CERT_DIR: {directory}: there is no certificate in this directory")
    if not pairs:
        acme = ", ".join(name for name in ACME if variables.get(name))
        also = f" {acme}: certificates are not fetched by ACME (Let's Encrypt) yet." if acme else ""
        raise ConfigurationError(f"CERT_FILE and KEY_FILE, or CERT_DIR: there are no certificates.{also}")
    return [{"hostnames": _names(one), "certificate": str(one), "key": str(other)} for one, other in pairs]


# -- All of it


def _dashboardInterface(interface: str, password: str) -> str:
    """Without a password the page is for this machine alone."""
    address = parseAddress(interface)
    return interface if password or (address is not None and address.is_loopback) else "127.0.0.1"


def readServerSettings(variables: Mapping[str, str], interface: str = "") -> GoTunnelServerSettings:
    """
    @param interface: the address to listen on; empty: all.
    @raise ConfigurationError: in one line that names the variable.
    """
    secret = variables.get("JWT_SECRET", "")
    if not secret:
        raise ConfigurationError("JWT_SECRET: there is none, and no default: set the one that the agents have")
    try:
        tokens = GoTunnelTokens(secret)
    except UnicodeEncodeError:
        raise ConfigurationError("JWT_SECRET: not UTF-8") from None
    host = _host(variables, *_HOST)
    password = variables.get("DASHBOARD_PASSWORD_HASH", "")
    tunnelListen = parseListen(joinPort(interface, _port(variables, 9443, "TUNNEL_PORT")))
    dashboard = joinPort(_dashboardInterface(interface, password), _port(variables, 8080, "DASHBOARD_PORT"))
    grant = _grant(variables)
    keys = {
        "GATEWAY_GATEWAY_PUBLIC_HOST": host,
        "GATEWAY_TLS_LISTEN": asVariable([joinPort(interface, _port(variables, 443, *_PORT))]),
        "GATEWAY_MANAGEMENT_LISTEN": asVariable([dashboard]),
        "GATEWAY_MANAGEMENT_PASSWORD_HASH": password,
        "GATEWAY_MANAGEMENT_HOSTS": host,
        "GATEWAY_CERTIFICATE": asVariable(_certificates(variables)),
    }
    return GoTunnelServerSettings(
        gateway=replace(readGatewaySettings(None, {**variables, **keys}), goTunnel=GoTunnelAgents(tokens, grant)),
        tunnelListen=tunnelListen,
        tunnelHost=_host(variables, "TUNNEL_HOST"),
    )
