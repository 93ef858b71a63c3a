"""
Write the pages of configuration files in C{docs/reference} from the types that read them, so that no page can lag behind::

    python -m tests.tomldocuments
"""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getsource
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from gateway.service.agent.config import AgentConfig
from gateway.service.configuration import Section, environmentNames
from gateway.service.server.config import GatewayConfig

__all__ = ["TOML_DOCUMENTS", "TomlDocument"]

_REFERENCE = Path(__file__).resolve().parents[1] / "docs/reference"

_GATEWAY = """\
# gateway.toml

What `gateway serve --config gateway.toml` and `twistd -n gateway --config gateway.toml` read. Only what differs from the default has to
be there. A key that there is not, or a value that cannot be, ends the command with one line that names it and exit status 2;
`gateway check-config gateway.toml` says the same without starting anything, and exits with 1.

Every key can come from the environment instead, which wins over the file. There a list is written with commas, and what is more than
a list of plain values as JSON. Without `--config` all of it comes from there. Paths in the file are relative to the file, and those in
variables to the working directory.

```{code-block} toml
:name: gateway-toml
[gateway]
public-host = "gw.example.com"

[tls]
listen = ["0.0.0.0:443"]

[http]
listen = ["0.0.0.0:80"]

[[certificate]]
hostnames = ["gw.example.com", "*.alice.example.com"]
certificate = "/etc/txgateway/fullchain.pem"
key = "/etc/txgateway/privkey.pem"

[[agent]]
name = "alice"
secret-hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
hostnames = ["*.alice.example.com", "alice.example.net"]
prefixes = ["/alice", "/alice/*"]
ports = ["2222", "20000-20099"]
limits = { streams = 1000, new-per-second = 50.0 }
```

SIGHUP reads the file and the environment again, and the files that are named there. What an agent may not do any more ends at once;
everything else goes on. Taken at once are agents, certificates, `access` everywhere, `proxy-protocol-from` of `tls`, all of `http` but
`listen`, and of `limits` the two memories, `connect-timeout`, `idle-timeout`, `udp-idle-timeout`, what begins with `route`, and, for
connections that come later, what is about requests. Other changes need a restart; the log names them. The access log is opened anew.

This page is generated: run `python -m tests.tomldocuments`.
"""

_AGENT = """\
# agent.toml

What `gateway agent --config agent.toml` and `twistd -n gateway-agent --config agent.toml` read. Only `to` has to be there. A key that
there is not, or a value that cannot be, ends the command with one line that names it and exit status 2; `gateway check-config agent.toml`
says the same without starting anything, and exits with 1.

Every key can come from the environment instead, which wins over the file, as the [options](agent-options.md) win over both. There a list
is written with commas, and what is more than a list of plain values as JSON. The credential itself can be in `GATEWAY_SECRET` or
`GATEWAY_JWT`; without any, a client certificate has to prove the name. Paths in the file are relative to the file, and those in variables
and options to the working directory.

```{code-block} toml
:name: agent-toml
targets = ["allow 10.0.0.0/8:22", "allow 127.0.0.1:22"]

[gateway]
to = "wss://gw.example.com/agent"
name = "box"
secret-file = "/etc/txgateway/secret"

[[service]]
key = "web"
kind = "http"
hostnames = ["app.example.com", "*.app.example.com"]
origin = "127.0.0.1:8080"
health = { kind = "http", path = "/healthz" }

[service.http]
max-body = 10485760
set-response-headers = { X-Frame-Options = "DENY" }

[[service]]
key = "docs"
kind = "http"
prefixes = ["/docs"]
origin = "127.0.0.1:8081"

[[service]]
key = "shop"
kind = "tls"
hostnames = ["shop.example.com"]
origin = "unix:/run/shop.sock"
proxy-protocol = "none"

[[service]]
key = "ssh"
kind = "tcp"
port = 2222
origin = "127.0.0.1:22"

[limits]
drain = 60
```

SIGHUP reads the file and the environment again. Services, origins and targets change in the session that there is; visits go on. When
something in `gateway` changes there is a new session, and what came through the old one may finish there. Changes of `limits` but for
`drain` need a restart.

Rules for targets are those of [the gateway](target-rules.md). Private addresses and those of the machine itself have to be named by a
rule of their own: `allow *` allows the rest.

This page is generated: run `python -m tests.tomldocuments`.
"""


@dataclass(frozen=True, slots=True)
class TomlDocument:
    """
    A page.

    @ivar kind: the type of the whole file.
    """

    path: Path
    introduction: str
    kind: type[Section]

    def generate(self) -> str:
        """Return the whole document."""
        return "\n".join([self.introduction.rstrip("\n"), *self._sections(self.kind, "", isList=False)]) + "\n"

    def _sections(self, kind: type[Any], path: str, *, isList: bool) -> Iterator[str]:
        type_ = inspect.type_info(kind)
        assert isinstance(type_, inspect.StructType)
        below = []
        rows = []
        for field in type_.fields:
            found = _sectionOf(field.type)
            if found is not None:
                below.append((found, f"{path}.{field.encode_name}".lstrip("."), _isList(field.type)))
            else:
                rows.append(self._row(field, path, keyTexts(kind).get(field.name, "")))
        if path:
            mark = f"[[{path}]]" if isList else f"[{path}]"
            level = "##" if "." not in path else "###"
            yield from ("", f"{level} {mark}", "", (kind.__doc__ or "").strip())
            yield from ("", "| key | default | environment | what it says |", "|---|---|---|---|", *rows)
        elif rows:
            yield from ("", "## Keys without a section", "")
            yield from ("| key | default | environment | what it says |", "|---|---|---|---|", *rows)
        for found, name, isBelow in below:
            yield from self._sections(found, name, isList=isBelow)

    def _row(self, field: inspect.Field, path: str, text: str) -> str:
        name = f"{path}.{field.encode_name}".lstrip(".")
        variable = environmentNames(self.kind).get(name)
        text = text.replace("|", r"\|")
        shown = f"`{variable}`" if variable else ""
        return f"| `{field.encode_name}` | {_default(field)} | {shown} | {text} |"


def _sectionOf(type_: inspect.Type) -> type[Any] | None:
    if isinstance(type_, inspect.Metadata):
        return _sectionOf(type_.type)
    if isinstance(type_, inspect.UnionType):
        return next((found for each in type_.types if (found := _sectionOf(each))), None)
    if isinstance(type_, inspect.VarTupleType):
        return _sectionOf(type_.item_type)
    return type_.cls if isinstance(type_, inspect.StructType) else None


def _isList(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.Metadata):
        return _isList(type_.type)
    return isinstance(type_, inspect.VarTupleType)


def keyTexts(kind: type[Any]) -> dict[str, str]:
    """What a section says of its keys: the texts below its fields, by their names."""
    texts = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, msgspec.Struct) and each is not msgspec.Struct:
            texts.update(_ownTexts(each))
    return texts


def _ownTexts(kind: type[Any]) -> dict[str, str]:
    (section,) = ast.parse(textwrap.dedent(getsource(kind))).body
    assert isinstance(section, ast.ClassDef)
    texts = {}
    for field, text in pairwise(section.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return texts


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default is msgspec.NODEFAULT or field.default in (None, "", ()):
        return ""
    return f"`{msgspec.json.encode(field.default).decode()}`"


TOML_DOCUMENTS = (
    TomlDocument(_REFERENCE / "gateway-toml.md", _GATEWAY, GatewayConfig),
    TomlDocument(_REFERENCE / "agent-toml.md", _AGENT, AgentConfig),
)

if __name__ == "__main__":
    for document in TOML_DOCUMENTS:
        document.path.write_text(document.generate(), encoding="utf-8")
