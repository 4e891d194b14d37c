"""The layout of the HTML pages, and the pages that are the same for everybody: visitor page, sign-in form, API page.

Plain HTML without scripts. The pages load nothing from other addresses, and a screen reader can read all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from fastapi.responses import HTMLResponse

from comms.web.security_headers import page_policy

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_STYLE: Final = """\
body { font: 1.1rem/1.6 system-ui, sans-serif; color: #1d2b2a; background: #fbfaf7; margin: 0; }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-weight: 600; } h2 { margin-top: 2.5rem; }
h2 { font-size: 1.25rem; font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: 0.25rem 1.5rem; margin: 0.75rem 0; }
dt { color: #4d5c5a; } dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 1.25rem; } .columns { columns: 2 17rem; column-gap: 2rem; }
li { margin: 0 0 0.35rem; break-inside: avoid; }
.notice { border-left: 0.3rem solid #9a3412; background: #fdf1e7; padding: 0.5rem 1rem; margin: 1.5rem 0; }
.notice h2 { margin-top: 0.25rem; }
footer { margin-top: 3rem; color: #4d5c5a; font-size: 0.95rem; }
h3 { margin: 1.75rem 0 0; font-size: 1rem; overflow-wrap: anywhere; }
a { color: #0b5a52; } code { font-size: 0.95em; } p { margin: 0.4rem 0; }
input, button { font: inherit; padding: 0.4rem 0.6rem; border: 0.1rem solid #4d5c5a; border-radius: 0.3rem; }
input { width: 20rem; max-width: 100%; box-sizing: border-box; } button { background: #0b5a52; color: #ffffff; }
:focus-visible { outline: 0.2rem solid currentColor; outline-offset: 0.15rem; }
@media (prefers-color-scheme: dark) {
body { color: #e6ebe9; background: #141a19; } a { color: #8fd3c8; } dt, footer { color: #a9b5b2; }
.notice { border-color: #f4a56b; background: #2b211a; } input { background: #1d2524; color: #e6ebe9; }
}
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.5rem; } }
"""
POLICY: Final = page_policy(_STYLE)
_PAGE: Final = """\
<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
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
_VISITOR: Final = """\
<h1>WriteCareConnect</h1>
<p>Records care conversations on a lawful basis, analyses them for safeguarding concerns, and shows the concerns to a
person who decides.</p>
<h2>Signing in</h2>
<p>You are not signed in. <a href="/sign-in">Sign in</a> with your account; the operator of this installation gives you
one. Programs send their token with each request, in the header <code>Authorization: Bearer …</code>; the page that
API documentation says how to get a token.</p>
<p>If somebody sent you a link to a call, you need no account: open that link.</p>
<h2>For developers</h2>
<ul>
<li><a href="/docs">API documentation</a></li>
<li><a href="/openapi.json">OpenAPI document</a> (JSON)</li>
</ul>"""


_FIELD: Final = """\
<p><label for="{name}">{label}</label><br>
<input id="{name}" name="{name}" type="{kind}" value="{value}" autocomplete="{fill}" autocapitalize="none"{needed}></p>
"""


class Page(HTMLResponse):
    """An HTML page with the Content-Security-Policy that its style sheet and its forms need."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers({"Content-Security-Policy": POLICY, **(headers or {})})


def page(title: str, body: str) -> str:
    """Returns a whole page around `body`. `body` is HTML already: the caller has escaped all user text in it."""
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def visitor_page() -> str:
    """The page for visitors who are not signed in: what the platform is and how to sign in."""
    return page("WriteCareConnect", _VISITOR)


def sign_in_page(*, single_sign_on: bool, tenant: str = "", user: str = "", problem: str = "") -> str:
    """The sign-in form of local accounts. `problem`: the error of the last attempt. `single_sign_on`: adds a link to
    the identity provider.
    """
    elsewhere = '<p>Or <a href="/api/auth/oidc/start">sign in with your organisation\'s account</a>.</p>\n'
    form = form_of(
        "/sign-in", "Sign in", problem,
        (
            Field("tenant", "Organisation", "organization", tenant),
            Field("user", "User name", "username", user),
            Field("password", "Password", "current-password", kind="password"),
            Field("code", "One-time code, if you have set one up", "one-time-code", needed=False),
        ),
    )  # fmt: skip
    first = '<p>You were given a code? <a href="/set-password">Set your password</a>.</p>\n'
    return page("Sign in: WriteCareConnect", f"<h1>Sign in</h1>\n{form}{first}{elsewhere if single_sign_on else ''}")


@dataclass(frozen=True)
class Field:
    """A field of a form. `fill`: its `autocomplete` value, for browsers and password managers."""

    name: str
    label: str
    fill: str
    value: str = ""
    kind: str = "text"
    needed: bool = True


def form_of(action: str, button: str, problem: str, fields: Iterable[Field]) -> str:
    """A form with one column. `problem`, the error of the last attempt, is shown above it."""
    alert = f'<p class="notice" role="alert" id="problem">{escape(problem)}</p>\n' if problem else ""
    lines = "".join(
        _FIELD.format(
            name=field.name, label=field.label, kind=field.kind, fill=field.fill, value=escape(field.value),
            needed=" required" if field.needed else "",
        )
        for field in fields
    )  # fmt: skip
    return f'{alert}<form method="post" action="{action}">\n{lines}<p><button>{button}</button></p>\n</form>\n'


def api_page(document: dict[str, Any]) -> str:
    """Renders the OpenAPI document as HTML."""
    return page("WriteCareConnect: the API", _described(document))


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
        f'<h1>The API</h1>\n{info}\n<p>Schemas of bodies and responses: <a href="/openapi.json">openapi.json</a>.</p>\n'
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
