"""A function in the shape of OpenFaaS' Flask template: python flask_app.py FUNCTION PORT."""

import sys

import handlers
import waitress
from flask import Flask, jsonify, request

app = Flask(__name__)
handler = handlers.load(sys.argv[1])


@app.post("/")
def call():
    """Calls the function."""
    return jsonify(handler(request.get_json()))


waitress.serve(app, host="127.0.0.1", port=int(sys.argv[2]), threads=8)
