"""`/openapi.json` and `/docs`: the API's description, for programs and for people.

The page is plain HTML, made from the description at start. It loads nothing, runs nothing and
links to nothing else than this node.
"""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

from appliance.entrypoints.gateway.openapi import api_description

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{background:#f2f2f2;padding:.1em .3em}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}"""
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


def add_pages(api: FastAPI, served_model: str) -> None:
    """Serve both, without a key: they say nothing of this node but its model's name."""
    description = api_description(served_model)
    page = page_of(description)

    @api.get("/openapi.json")
    async def openapi() -> Response:
        return JSONResponse(description)

    @api.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(page, headers=_HEADERS)


def page_of(description: dict[str, Any]) -> str:
    """Write the description as one page of HTML."""
    title = escape(description["info"]["title"])
    routes = [
        _route(method, path, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    keys = "Give the API key as <code>Authorization: Bearer lwd_…</code> or <code>x-api-key: lwd_…</code>."
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(description['info']['description'])} {keys} "
        f'For programs: <a href="/openapi.json">openapi.json</a>.</p>{"".join(routes)}</html>'
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    head = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>"
    answers = _table(
        ("status", "what"), [(status, escape(each["description"])) for status, each in operation["responses"].items()]
    )
    if "requestBody" not in operation:
        return head + answers
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    fields = [
        (
            f"<code>{escape(name)}</code>{' (required)' if name in body['required'] else ''}",
            escape(_meaning(schema)),
        )
        for name, schema in body["properties"].items()
    ]
    return head + _table(("field", "value"), fields) + answers


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{left}</td><td>{right}</td></tr>" for left, right in rows)
    return f"<table><tr><th>{heads[0]}</th><th>{heads[1]}</th></tr>{cells}</table>"


def _meaning(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_meaning(each) for each in schema["anyOf"])
    words = [str(schema["const"])] if "const" in schema else [", ".join(schema.get("enum", [])) or _type(schema)]
    if "minimum" in schema and "maximum" in schema:
        words.append(f"from {schema['minimum']:,} to {schema['maximum']:,}")
    if "maxItems" in schema:
        words.append(f"at most {schema['maxItems']}")
    if "description" in schema:
        words.append(f"({schema['description']})")
    return " ".join(words)


def _type(schema: dict[str, Any]) -> str:
    kind = str(schema["type"])
    return f"list of {_meaning(schema['items'])}" if kind == "array" and "items" in schema else kind
