"""
The web server of Python with TLS, as it is on many a developer's machine. It ends connections without saying so in TLS::

    python tlsfiles.py 8443 certificate.pem key.pem /some/folder
"""

from __future__ import annotations

import ssl
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

if __name__ == "__main__":
    port, certificate, key, folder = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), partial(SimpleHTTPRequestHandler, directory=folder))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
