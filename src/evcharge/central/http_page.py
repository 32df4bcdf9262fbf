"""The page for people at /docs, from the OpenAPI document: plain HTML, no script, nothing from elsewhere."""

from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid #ccc; padding-top: 1rem; font-size: 1.1rem; }
table { border-collapse: collapse; margin: .5rem 0; }
td { border: 1px solid #ccc; padding: .2rem .6rem; vertical-align: top; }
"""

Json = dict[str, Any]


class PlainPage(OpenAPIRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        return page_of(openapi_schema).encode()


def page_of(described: Json) -> str:
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1><p>{escape(described['info']['description'])}",
        " For programs: <a href=/docs/openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(f"{method.upper()} {path}", operation))
    for name, schema in described["components"]["schemas"].items():
        parts.append(_schema(name, schema))
    return "\n".join(parts)


def _operation(name: str, operation: Json) -> str:
    rows = [
        (parameter["name"], parameter["in"], _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    if "requestBody" in operation:
        rows.append(("body", "JSON", _of_content(operation["requestBody"]), ""))
    for code, response in sorted(operation["responses"].items()):
        rows.append((code, "answer", _of_content(response), escape(response["description"])))
    return f"<h2><code>{escape(name)}</code> {escape(operation['summary'])}</h2>{_table(rows)}"


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (field, "required" if field in required else "", _type(of), "")
        for field, of in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", ""))
    values = ", ".join(escape(str(value)) for value in schema.get("enum", []))
    return f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{about} {values}</p>{_table(rows)}'


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    """The last two cells of a row are HTML already."""
    lines = [
        f"<tr><td><code>{escape(name)}</code><td>{escape(where)}<td>{kind}<td>{about}"
        for name, where, kind, about in rows
    ]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _of_content(part: Json) -> str:
    return ", ".join(_type(content.get("schema", {})) for content in part.get("content", {}).values())


def _type(schema: Json) -> str:
    """`text <code>^[A-Z]{3}$</code>, or null`, with a link to what is described on its own."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type(choice) for choice in schema[key])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [
        f"{words} {escape(str(schema[key]))}"
        for key, words in (("minimum", "from"), ("maximum", "to"), ("pattern", "like"), ("default", "default"))
        if schema.get(key) is not None
    ]
    return " ".join([escape(str(schema.get("format", schema.get("type", "")))), *limits])
