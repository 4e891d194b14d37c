"""The two pages for people at this address: what this is, and what can be asked here.

Drawn here as plain HTML without scripts: nothing is fetched from anywhere else, and a screen reader gets it whole.
"""

from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_STYLE: Final = """\
body { font: 1.1rem/1.6 system-ui, sans-serif; color: #1d2b2a; background: #fbfaf7; margin: 0; }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-weight: 600; } h2 { margin-top: 2.5rem; }
h3 { margin: 1.75rem 0 0; font-size: 1rem; overflow-wrap: anywhere; }
a { color: #0b5a52; } code { font-size: 0.95em; } p { margin: 0.4rem 0; }
@media (prefers-color-scheme: dark) { body { color: #e6ebe9; background: #141a19; } a { color: #8fd3c8; } }
"""
_PAGE: Final = """\
<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
_FRONT: Final = """\
<h1>WriteCareConnect</h1>
<p>Care conversations, recorded with a lawful ground, read for safeguarding concerns, and put before a person who
decides.</p>
<p>This address is for programs and for the people who run them:</p>
<ul>
<li><a href="/docs">What can be asked here</a></li>
<li><a href="/openapi.json">The same for programs</a> (OpenAPI)</li>
<li><a href="/health/detailed">Whether everything is well</a></li>
</ul>"""


@router.get("/")
async def front_page() -> str:
    """What this is and where to go."""
    return _PAGE.format(title="WriteCareConnect", style=_STYLE, body=_FRONT)


@router.get("/docs")
async def docs_page(request: Request) -> str:
    """The OpenAPI document as a page."""
    return _PAGE.format(title="WriteCareConnect: the API", style=_STYLE, body=_described(request.app.openapi()))


def _described(document: dict[str, Any]) -> str:
    sections: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = operation.get("tags", ["other"])[0]
                sections.setdefault(tag, []).append(_operation(method, path, operation))
    parts = [f"<h2>{escape(tag.capitalize())}</h2>\n" + "\n".join(found) for tag, found in sections.items()]
    info = "".join(f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    return (
        f'<h1>The API</h1>\n{info}\n<p>Shapes of bodies and answers: <a href="/openapi.json">openapi.json</a>.</p>\n'
        + "\n".join(parts)
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    asked = [
        f"<code>{escape(parameter['name'])}</code>{'' if parameter.get('required') else ' (optional)'}"
        for parameter in operation.get("parameters", [])
    ]
    body = next(iter(operation.get("requestBody", {}).get("content", {})), None)
    given = [f"a body of <code>{escape(body)}</code>"] if body is not None else []
    takes = f"<p>Takes {', '.join(asked + given)}.</p>" if asked or given else ""
    answers = ", ".join(code for code in operation.get("responses", {}) if code.startswith("2"))
    text = escape(operation.get("description", operation.get("summary", "")))
    return f"<h3><code>{method.upper()} {escape(path)}</code></h3>\n<p>{text} Answers {answers}.</p>{takes}"
