"""
A Flask application as behind any reverse proxy, for gunicorn: C{gunicorn --chdir FOLDER flaskapp:app}.
"""
# mypy: allow-untyped-decorators

import hashlib

from flask import Flask, Response, jsonify, redirect, request, url_for  # type: ignore[import-not-found]  # in .peers only
from werkzeug.middleware.proxy_fix import ProxyFix  # type: ignore[import-not-found]

app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_port=1)


@app.get("/")
def index() -> Response:
    """Who is asking, and for what, as an application sees it."""
    return jsonify(url=request.url, address=request.remote_addr, route=request.access_route, secure=request.is_secure)


@app.get("/old")
def old() -> Response:
    """Somewhere else, as an absolute URL."""
    return redirect(url_for("index", _external=True))


@app.post("/form")
def form() -> Response:
    """What a form said, and two cookies."""
    file = request.files["file"]
    response = jsonify(name=request.form["name"], file=file.filename, sum=hashlib.sha256(file.read()).hexdigest())
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    return response


@app.get("/rows")
def rows() -> Response:
    """A long answer, of which nobody knows how long it is."""
    return Response((f"{number}\n" for number in range(200_000)), mimetype="text/plain")


@app.post("/size")
def size() -> Response:
    """How much came, of what need not have a length."""
    return jsonify(size=len(request.get_data()), length=request.content_length)
