"""What REST says of itself: the OpenAPI document, and Swagger UI to click through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from sanfran_api.rest import models
from sanfran_api.settings import Settings

PREFIX = "/api/v1"
STATIC = Path(__file__).parent.parent / "static"
"""Swagger UI's files, which the build puts there."""

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)
"""The page asks this service and nobody else, whatever is in it."""

_FORM: dict[str, Any] = {
    "name": {"type": "string", "description": "A DNS-1123 label: a-z, 0-9 and -, at most 63."},
    "file": {
        "type": "string",
        "format": "binary",
        "description": "A module (*.js *.mjs *.cjs *.ts *.mts *.cts), or a folder as *.zip, *.tgz, "
        "*.tar.gz or *.tar.",
    },
    "settings": {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "A JSON object; see the schema Settings.",
        "examples": ['{"timeout": 30, "env": {"GREETING": "Hello"}}'],
    },
    "build": {
        "type": "string",
        "enum": ["true", "false"],
        "default": "true",
        "description": "Install the dependencies that package.json names, where the folder has no "
        "node_modules; false takes it as it is.",
    },
    "dry_run": {
        "type": "string",
        "enum": ["true", "false"],
        "default": "false",
        "description": "Judge the rest as ever, answer what would be, and change nothing. The file is "
        "not looked into and may be empty: of new code the answer has no entry, digest and size.",
    },
    "source": {
        "type": "string",
        "maxLength": 200,
        "description": "What you call this code, such as a digest; shown with the function.",
    },
}


def form_body(*fields: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """What an operation says of its body: a form with these fields."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field: _FORM[field] for field in fields},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = list(required)
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


BUILD_LOG: dict[int | str, dict[str, Any]] = {
    "2XX": {
        "description": "With Accept: application/x-ndjson, once a build has something to tell (200): "
        'a line {"log": "…"} for each line that it writes, at last {"status": 201, "function": {…}} or '
        '{"status": 422, "error": {…}}.',
        "content": {"application/x-ndjson": {}},
    }
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation says of the errors that it answers; 500 is added."""
    return {status: {"model": models.Error} for status in (*statuses, 500)}


def describe(app: FastAPI) -> None:
    """Corrects what FastAPI says: it promises its own form of 422 wherever there are parameters,
    where this is a 400, and it does not know of answers that are streamed. Also adds how to sign in."""
    spec = app.openapi()
    for path in spec["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        spec["components"]["schemas"].pop(unused, None)
    spec["components"]["schemas"]["LogLine"] = models.LogLine.model_json_schema()
    spec["components"]["schemas"]["Settings"] = Settings.model_json_schema()
    spec["components"]["securitySchemes"] = {
        "password": {"type": "http", "scheme": "basic"},
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    }
    # Which of them, if any, is for the service's settings to say.
    spec["security"] = [{}, {"password": []}, {"token": []}]


def add_docs(app: FastAPI) -> None:
    """Swagger UI from our own files: a machine without internet shows it too."""
    if not STATIC.is_dir():
        return
    app.mount(f"{PREFIX}/static", StaticFiles(directory=STATIC))

    @app.get(f"{PREFIX}/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url=f"{PREFIX}/openapi.json",
            title="SanFran API",
            swagger_js_url=f"{PREFIX}/static/swagger-ui-bundle.js",
            swagger_css_url=f"{PREFIX}/static/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        page.headers["content-security-policy"] = PAGE_POLICY
        return page
