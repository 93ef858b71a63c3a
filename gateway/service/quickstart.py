"""
C{gateway quick-start}: all that a first gateway and its first agent need, in a new directory::

    gateway quick-start first
    gateway serve --config first/gateway.toml
    gateway agent --config first/agent.toml

They are ordinary files to go on from. There is no shorter way without them, since there is no default secret, and no
agent that believes just any certificate: the agent's file has the pin of the certificate that is made here.
"""

__all__ = ["QuickStartOptions"]

import datetime
import json
import os
import shlex
import sys
from pathlib import Path
from shutil import which

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.python import usage

from gateway.domain.tokens import generateToken, hashToken
from gateway.net.tlsclient import publicKeyPin
from gateway.service.options import CommandOptions, installed
from gateway.wire.hostname import isHostName

_LIFETIME = datetime.timedelta(days=365)

_GATEWAY = """\
[gateway]
public-host = {host}

[tls]
listen = ["{interface}:8443"]

[http]
listen = ["{interface}:8080"]

[management]
listen = ["127.0.0.1:9080"]

[ports]
interfaces = ["{interface}"]

[[certificate]]
hostnames = [{host}, {below}]
certificate = "certificate.pem"
key = "key.pem"

[[agent]]
name = "first"
secret-hash = "{hash}"
hostnames = [{below}]
ports = ["20000-20099"]
"""

_AGENT = """\
[gateway]
to = "wss://{name}:8443/agent"
pin = "{pin}"
name = "first"
secret-file = "secret"

[[service]]
key = "web"
kind = "http"
hostnames = [{app}]
origin = "127.0.0.1:8000"

[[service]]
key = "port"
kind = "tcp"
port = 20000
origin = "127.0.0.1:8000"
"""


class QuickStartOptions(CommandOptions):
    """What C{gateway quick-start} can be told."""

    command = "gateway quick-start"
    synopsis = "[options] DIRECTORY"
    longdesc = """
    Makes a directory with gateway.toml, agent.toml, a secret and a self-signed certificate that is good for a year, and
    says how to start the two. The agent serves http://app.HOST:8080, https://app.HOST:8443 and port 20000, all from
    127.0.0.1:8000. The gateway listens on loopback alone, unless --host gives it another name."""
    optParameters = [["host", None, "localhost", "The name under which agents and visitors reach the gateway"]]

    def parseArgs(self, *directories: str) -> None:
        """
        @raise usage.UsageError: there is not exactly one.
        """
        if len(directories) != 1:
            raise usage.UsageError("one directory is expected, which is made")
        (self["directory"],) = directories

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: in one line that names the option.
        """
        if not isHostName(self["host"]):
            raise usage.UsageError(f"--host: {self['host']!a} is not a host name in lower case")

    def run(self) -> int:
        """
        @return: the exit status.
        """
        try:
            _write(Path(self["directory"]), self["host"])
        except OSError as e:
            print(f"gateway quick-start: {e.filename}: {e.strerror}", file=sys.stderr)
            return 1
        program = "gateway" if which("gateway") else installed("gateway")
        for command, name in (("serve", "gateway.toml"), ("agent", "agent.toml")):
            print(shlex.join((program, command, "--config", f"{self['directory']}/{name}")))
        return 0


def _write(directory: Path, host: str) -> None:
    """
    @raise OSError: the directory cannot be made, or is there already.
    """
    directory.mkdir(mode=0o700, parents=True)
    certificate, key = _selfSigned(host)
    secret = generateToken()
    facts = {
        "host": _quoted(host),
        "below": _quoted(f"*.{host}"),
        "app": _quoted(f"app.{host}"),
        "name": host,
        "interface": "127.0.0.1" if host == "localhost" else "0.0.0.0",  # noqa: S104  # a name is for others
        "hash": hashToken(secret),
        "pin": publicKeyPin(certificate),
    }
    for name, text in (
        ("certificate.pem", certificate.public_bytes(Encoding.PEM).decode()),
        ("key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()),
        ("secret", f"{secret}\n"),
        ("gateway.toml", _GATEWAY.format_map(facts)),
        ("agent.toml", _AGENT.format_map(facts)),
    ):
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a TOML string is written as JSON's


def _selfSigned(host: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    # Programs do not take *.localhost for a name below it, as they would not take *.com; so one is there by itself.
    names = [x509.DNSName(name) for name in (host, f"*.{host}", f"app.{host}")]
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key
