"""A set of certificate files, tried, as contexts for connections; and what failures say.

A set proves itself by a handshake with itself, in memory. That asks everything that a peer would ask
(the chain, the dates, the purposes, the name), and the standard library has no other way to read a certificate.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanfran_common.lifecycle import CannotStart
from sanfran_common.rpc.roles import DOMAIN, Role, host_name, role_in

CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
ALPN = "h2"


class BadCertificates(CannotStart):
    """The files are not what they must be; says which and what would work."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """One set of files, as contexts."""

    digest: bytes
    client: ssl.SSLContext
    server: ssl.SSLContext
    """Requires a certificate of every caller."""
    server_for_strangers: ssl.SSLContext
    """Takes callers without a certificate, too."""
    begins: float
    ends: float
    """Unix time, of the certificate or the CA behind it."""


def load(folder: Path, role: Role, *, unless: bytes = b"") -> Certificates | None:
    """Reads the files and tries them.

    Args:
        role: that the certificate must carry.
        unless: digest of a set for which there is nothing to do.

    Returns:
        None: the set is the one of `unless`.

    Raises:
        BadCertificates: says which file, and what would work.
    """
    files = _read(folder)
    digest = _digest(files)
    if digest == unless:
        return None
    made = [
        _context(files, folder, ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED),
        _context(files, folder, ssl.PROTOCOL_TLS_SERVER, ssl.CERT_REQUIRED),
        _context(files, folder, ssl.PROTOCOL_TLS_SERVER, ssl.CERT_OPTIONAL),
    ]
    client, server, for_strangers = made
    begins, ends = _prove(client, server, role)
    if _digest(_read(folder)) != digest:
        raise BadCertificates(f"{folder}: its files change just now")
    return Certificates(digest, client, server, for_strangers, begins, ends)


def _read(folder: Path) -> dict[str, str]:
    files = {}
    for name in (CA, CERTIFICATE, KEY):
        path = folder / name
        try:
            # Comments may be of any encoding; what counts is ASCII.
            files[name] = path.read_bytes().decode("ascii", errors="ignore")
        except OSError as error:
            raise BadCertificates(
                f"{path}: {error.strerror}; it has to be there, as PEM"
            ) from error
        if "-----BEGIN " not in files[name]:
            raise BadCertificates(f"{path}: is no PEM; it begins with -----BEGIN where it is one")
    return files


def _digest(files: dict[str, str]) -> bytes:
    return hashlib.sha256("\0".join(files.values()).encode()).digest()


def _context(
    files: dict[str, str], folder: Path, side: int, verify: ssl.VerifyMode
) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nobody resumes: connections are few and stay
    context.verify_mode = verify
    try:
        context.load_verify_locations(cadata=files[CA])
    except ssl.SSLError as error:
        text = f"{folder / CA}: is no list of CA certificates ({_reason(error)})"
        raise BadCertificates(text) from error
    try:
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"{folder / KEY}: is not the key of {CERTIFICATE}; give those made together"
        else:
            text = f"{folder / CERTIFICATE} or {KEY}: cannot be read ({_reason(error)})"
        raise BadCertificates(text) from error
    except OSError as error:
        raise BadCertificates(f"{folder / KEY}: {error.strerror or error}") from error
    return context


def _no_password() -> str:
    raise BadCertificates(f"{KEY}: is encrypted; openssl pkey makes one without a password of it")


def _prove(client: ssl.SSLContext, server: ssl.SSLContext, role: Role) -> tuple[float, float]:
    """A handshake of the set with itself. Returns when the certificate begins and ends."""
    client.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = client.wrap_bio(to_client, to_server, server_hostname=host_name(role))
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (calling, answering) * 2:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise BadCertificates(
            f"{CERTIFICATE} does not hold by {CA}: {error.verify_message}; give one that was issued "
            "by that CA, for client and server, and is valid now"
        ) from error
    except ssl.SSLError as error:
        raise BadCertificates(f"{CERTIFICATE} cannot be used: {_reason(error)}") from error
    client.check_hostname = True
    certificate: dict[str, Any] = dict(calling.getpeercert() or {})
    if role_in(certificate) is not role:
        names = [str(name) for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
        raise BadCertificates(
            f"{CERTIFICATE}: is for {', '.join(names) or 'no DNS name'}; this service's carries the "
            f"DNS name {host_name(role)} and no other of {DOMAIN}"
        )
    ends = [_unix(certificate["notAfter"])]
    issuers = [ca for ca in client.get_ca_certs() if ca["subject"] == certificate["issuer"]]
    if issuers:  # several of one name: one that was replaced ends first
        ends.append(max(_unix(ca["notAfter"]) for ca in issuers))
    return _unix(certificate["notBefore"]), min(ends)


def explain(error: BaseException) -> str:
    """What went wrong in a handshake, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the other side's certificate does not hold: {error.verify_message}"
    if not isinstance(error, ssl.SSLError):
        return f"TLS: the other side broke off; its log may say why ({str(error) or type(error).__name__})"
    reason = error.reason or ""
    if reason in _NO_TLS:
        return f"TLS: the other side does not speak TLS; does it have --tls-dir? ({reason})"
    if "CERTIFICATE_REQUIRED" in reason or reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "TLS: a certificate is required of the client, and it showed none"
    if "ALERT" in reason:
        return f"TLS: the other side refused us: {reason.rpartition('ALERT_')[2].replace('_', ' ').lower()}"
    return f"TLS: {_reason(error)}"


_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "BAD_RECORD_TYPE",
}


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _unix(when: object) -> float:
    return float(ssl.cert_time_to_seconds(str(when)))
