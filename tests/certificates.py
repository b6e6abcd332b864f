"""A CA of the tests' own, and certificates for every role, good and bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def pem_of(certificate: x509.Certificate) -> bytes:
    """As it stands in a file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_key(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    """As it stands in a file."""
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


@dataclass
class Authority:
    """Issues certificates."""

    name: str = "sanfran test CA"
    days: tuple[float, float] = (-1, 365)
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = _begun(self._subject, self._subject, self.key, self.days)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        # Who verifies tells CAs of one name apart by it.
        self._key_id = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = builder.add_extension(self._key_id, critical=False)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        *names: str,
        days: tuple[float, float] = (-1, 90),
        purposes: tuple[x509.ObjectIdentifier, ...] = (
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
    ) -> tuple[bytes, bytes]:
        """A certificate for these DNS names, and its key, as PEM.

        Args:
            days: from when until when, from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sanfran")])
        builder = _begun(subject, self._subject, key, days)
        shown = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(shown, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_id)
        builder = builder.add_extension(issuer, critical=False)
        return pem_of(builder.sign(self.key, hashes.SHA256())), pem_of_key(key)

    def folder(self, path: Path, role: str, *, days: tuple[float, float] = (-1, 90)) -> str:
        """Writes what a service of that role needs, and returns the folder's path."""
        write(path, pem_of(self.certificate), *self.issue(f"{role}.sanfran.internal", days=days))
        return str(path)


def write(path: Path, ca: bytes, certificate: bytes, key: bytes) -> None:
    """The three files of a folder."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "ca.crt").write_bytes(ca)
    (path / "tls.crt").write_bytes(certificate)
    (path / "tls.key").write_bytes(key)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: tuple[float, float],
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
    )
