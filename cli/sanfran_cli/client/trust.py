"""Whose certificates a client believes, at addresses that begin with https."""

from __future__ import annotations

import os
import ssl
from typing import Any

import httpx

from sanfran_cli.errors import Refused

CA_FILE = "SSL_CERT_FILE"
"""The variable that OpenSSL, curl and httpx know."""


def verification(url: str) -> Any:
    """httpx's `verify` for a URL: a private CA's file counts at addresses of this machine, too, where
    httpx looks at nothing else of the environment.

    Raises:
        Refused: the file does not work.
    """
    path = os.environ.get(CA_FILE)
    if not path or httpx.URL(url).scheme != "https":
        return True
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        why = error.strerror if not isinstance(error, ssl.SSLError) else "is no CA's certificate"
        raise Refused(f"{CA_FILE}: {path}: {why}; a PEM file of one or more CAs works") from error


def explain(error: Exception) -> str:
    """Why an address could not be talked to."""
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"{text}; where a private CA issued it, name that one's file in {CA_FILE}"
    return text
