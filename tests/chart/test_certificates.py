"""What the chart makes once: certificates, the password of admin, the key of secrets."""

from __future__ import annotations

import base64
import itertools
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.chart.fake_cluster import Cluster, cluster
from tests.chart.helm import Object, template

ROLES = ["router", "controller", "api", "sidecar"]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


def decoded(secret: dict[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in secret.items()}


def role_secrets(objects: list[Object]) -> dict[str, dict[str, bytes]]:
    return {
        made["metadata"]["name"].split("-")[-2]: decoded(made["data"])
        for made in objects
        if made["kind"] == "Secret" and made["metadata"]["name"].endswith("-tls")
    }


def folder(path: Path, secret: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, content in secret.items():
        (path / name).write_bytes(content)
    return path


def context(purpose: ssl._SSLMethod, files: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    made.load_cert_chain(files / "tls.crt", files / "tls.key")
    made.load_verify_locations(files / "ca.crt")
    made.verify_mode = ssl.CERT_REQUIRED
    # Newer Pythons have it on.
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    return made


def shake(client: Path, server: Path, name: str) -> None:
    """A handshake between two folders of certificates, in memory.

    Raises:
        ssl.SSLError: one does not believe the other.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context(ssl.PROTOCOL_TLS_CLIENT, client).wrap_bio(back, there, server_hostname=name),
        context(ssl.PROTOCOL_TLS_SERVER, server).wrap_bio(there, back, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert ends[0].getpeercert()
    assert ends[1].getpeercert()


def test_every_role_believes_every_other_by_its_name(tmp_path: Path) -> None:
    secrets = role_secrets(template())
    assert sorted(secrets) == sorted(ROLES)
    folders = {role: folder(tmp_path / role, secret) for role, secret in secrets.items()}
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate(secrets[role]["tls.crt"])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [f"{role}.sanfran.internal"]
        for other in ROLES:
            shake(folders[role], folders[other], f"{other}.sanfran.internal")
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        shake(folders["router"], folders["api"], "controller.sanfran.internal")


def test_another_release_is_not_believed(tmp_path: Path) -> None:
    mine = role_secrets(template())
    theirs = role_secrets(template(name="other"))
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake(
            folder(tmp_path / "mine", mine["router"]),
            folder(tmp_path / "theirs", theirs["controller"]),
            "controller.sanfran.internal",
        )


def test_the_key_of_the_authority_is_in_no_secret_that_pods_mount() -> None:
    objects = template()
    (authority,) = (made for made in objects if made["metadata"]["name"] == "demo-sanfran-ca-first")
    for secret in role_secrets(objects).values():
        assert decoded(authority["data"])["tls.key"] not in secret.values()
        assert secret["ca.crt"].strip() == decoded(authority["data"])["tls.crt"].strip()


def test_an_upgrade_keeps_certificates_password_and_key(fake: Cluster) -> None:
    fake.install()
    before = fake.secrets()
    assert len(before) == 6
    fake.install("router.replicas=3", "functions.sidecar.settings.log-lines=10")
    assert fake.secrets() == before


def test_a_new_rotation_makes_new_certificates_of_the_same_authority(
    fake: Cluster, tmp_path: Path
) -> None:
    fake.install()
    before = fake.secrets()
    fake.install("tls.chart.rotation=today")
    after = fake.secrets()
    assert {name for name in before if before[name] != after[name]} == {
        f"demo-sanfran-{role}-tls" for role in ROLES
    }
    # Those that still have old ones are believed meanwhile.
    shake(
        folder(tmp_path / "old", decoded(before["demo-sanfran-router-tls"])),
        folder(tmp_path / "new", decoded(after["demo-sanfran-api-tls"])),
        "api.sanfran.internal",
    )
    fake.install("tls.chart.rotation=today")
    assert fake.secrets() == after


def test_an_authority_is_replaced_in_three_steps_in_which_all_believe_all(
    fake: Cluster, tmp_path: Path
) -> None:
    steps = []
    for authorities in ("{first}", "{first,second}", "{second,first}", "{second}"):
        fake.install(f"tls.chart.authorities={authorities}")
        steps.append(
            folder(
                tmp_path / authorities.strip("{}"),
                decoded(fake.secrets()["demo-sanfran-controller-tls"]),
            )
        )
    for old, new in itertools.pairwise(steps):
        shake(old, new, "controller.sanfran.internal")
        shake(new, old, "controller.sanfran.internal")
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake(steps[0], steps[-1], "controller.sanfran.internal")
    assert "demo-sanfran-ca-first" not in fake.secrets()


def test_certificates_near_their_end_are_made_anew_at_an_upgrade(fake: Cluster) -> None:
    fake.install()
    before = fake.secrets()
    name = "demo-sanfran-router-tls"
    annotations = fake.objects["default", "secrets", name]["metadata"]["annotations"]
    issued = int(annotations["sanfran.dev/issued"])
    annotations["sanfran.dev/issued"] = str(issued - 825 * 86400 * 2 // 3 + 3600)
    fake.install()
    assert fake.secrets() == before
    annotations = fake.objects["default", "secrets", name]["metadata"]["annotations"]
    annotations["sanfran.dev/issued"] = str(issued - 825 * 86400 * 2 // 3 - 60)
    fake.install()
    assert {one for one in before if before[one] != fake.secrets()[one]} == {name}


def test_an_authority_that_somebody_deleted_is_made_anew_with_all_that_it_signs(
    fake: Cluster, tmp_path: Path
) -> None:
    fake.install()
    del fake.objects["default", "secrets", "demo-sanfran-ca-first"]
    fake.install()
    router, api = (
        folder(tmp_path / role, decoded(fake.secrets()[f"demo-sanfran-{role}-tls"]))
        for role in ("router", "api")
    )
    shake(router, api, "api.sanfran.internal")


def test_a_password_of_ones_own_is_taken_and_the_key_stays(fake: Cluster) -> None:
    fake.install()
    before = decoded(fake.secrets()["demo-sanfran-api"])
    assert len(before["admin-password"]) == 24
    assert len(base64.b64decode(before["secrets-key"])) == 32
    fake.install("api.auth.basic.adminPassword=open sesame")
    after = decoded(fake.secrets()["demo-sanfran-api"])
    assert after == {**before, "admin-password": b"open sesame"}
