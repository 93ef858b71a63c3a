"""
An application with a login, in Flask, as behind any reverse proxy that says below which path it is: C{adminapp.py PORT}.
"""
# mypy: allow-untyped-decorators, disable-error-code="import-not-found"

import gzip
import sys
from typing import Any

from flask import Flask, Response, jsonify, redirect, request, session, url_for  # in .peers only
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.secret_key = "of the tests"
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

_PAGE = "<!doctype html><meta charset=utf-8><title>{title}</title><body>{body}"
_FORM = "<form method=post><input name=user><input name=password type=password><button>Log in</button></form>"


_SCRIPT = """<script>
async function result() {
  const form = new URLSearchParams({user: 'Ada', password: 'secret'});
  const before = await fetch('admin');
  const after = await fetch('login', {method: 'POST', body: form});
  const heading = new DOMParser().parseFromString(await after.text(), 'text/html').querySelector('h1').textContent;
  return {before: new URL(before.url).pathname, after: new URL(after.url).pathname, heading, cookies: document.cookie};
}
</script>
"""


def _page(title: str, body: str) -> str:
    return _PAGE.format(title=title, body=body)


@app.get("/")
def index() -> str:
    """What a browser runs."""
    return _page("Start", _SCRIPT)


@app.get("/admin")
def admin() -> Any:
    """What is for those who are known."""
    if "user" not in session:
        return redirect(url_for("login", next=request.path))
    return _page("Admin", f"<h1>Grüße, {session['user']}</h1><a href={url_for('logout')}>Log out</a>")


@app.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """Become known."""
    if request.method == "POST" and request.form["password"] == "secret":
        session["user"] = request.form["user"]
        response = redirect(url_for("admin"))
        response.set_cookie("theme", "dark")
        return response
    return _page("Log in", _FORM)


@app.get("/logout")
def logout() -> Any:
    """Be forgotten."""
    session.clear()
    return redirect(url_for("admin"))


@app.route("/seen", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
def seen() -> Response:
    """The request as the application sees it."""
    return jsonify(
        method=request.method,
        url=request.url,
        root=request.script_root,
        address=request.remote_addr,
        query=list(request.args.items(multi=True)),
        accept=request.headers.getlist("Accept"),
        size=len(request.get_data()),
    )


@app.get("/cookies")
def cookies() -> Response:
    """Several cookies at once."""
    response = Response("cookies")
    for number in range(3):
        response.set_cookie(f"c{number}", str(number))
    return response


@app.get("/gzip")
def compressed() -> Response:
    """What is compressed, whether that was asked for or not."""
    return Response(gzip.compress(b"text " * 1000), mimetype="text/plain", headers={"Content-Encoding": "gzip"})


@app.get("/binary")
def binary() -> Response:
    """What is not text."""
    return Response(bytes(range(256)), mimetype="application/octet-stream")


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
