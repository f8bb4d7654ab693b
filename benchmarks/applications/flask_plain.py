"""A Flask application."""

from flask import Flask

app = Flask(__name__)


@app.get("/", defaults={"number": 0})
@app.get("/items/<int:number>")
def item(number):
    return {"number": number}
