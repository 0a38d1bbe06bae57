"""One context for each setting, built when it is needed, refused when it is wrong."""

from __future__ import annotations

import ssl
import threading

import httpx
import httpx2
import pytest
import trustme

from resilient.identity import tls
from resilient.identity.tls import TLS, ssl_context

deprecated = pytest.mark.filterwarnings("ignore:`(verify|cert)=:DeprecationWarning")


@pytest.fixture(autouse=True)
def no_contexts_yet(monkeypatch) -> None:
    monkeypatch.setattr(tls, "_contexts", {})


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    authority = trustme.CA()
    leaf = authority.issue_cert("client.internal")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    return {"ca": str(tmp_path / "ca.pem"), "client": str(tmp_path / "client.pem")}


def counting(calls: list[dict]):
    def create(**kwargs: object) -> ssl.SSLContext:
        calls.append(kwargs)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    return create


def test_a_setting_has_one_context() -> None:
    create = counting([])
    assert ssl_context(create=create) is ssl_context(create=create)
    assert ssl_context(False, create=create) is not ssl_context(True, create=create)


def test_http2_has_a_context_of_its_own_because_alpn_is_set_on_it() -> None:
    create = counting([])
    assert ssl_context(http2=True, create=create) is not ssl_context(http2=False, create=create)


def test_it_means_what_it_means_to_httpx() -> None:
    assert ssl_context().verify_mode == httpx.create_ssl_context().verify_mode == ssl.CERT_REQUIRED
    assert ssl_context(verify=False).verify_mode == ssl.CERT_NONE


def test_each_library_has_contexts_of_its_own() -> None:
    ours = ssl_context(create=httpx2.create_ssl_context)
    assert ours is not ssl_context(create=httpx.create_ssl_context)


def test_a_ready_context_is_used_as_given() -> None:
    ready = ssl.create_default_context()
    assert ssl_context(ready) is ready
    assert TLS(verify=ready).context(http2=True) is ready


def test_the_environment_is_part_of_the_setting(monkeypatch, files) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    without = ssl_context()
    monkeypatch.setenv("SSL_CERT_FILE", files["ca"])
    within = ssl_context()
    assert within is not without
    assert len(within.get_ca_certs()) == 1
    assert ssl_context(trust_env=False).cert_store_stats() == without.cert_store_stats()


def test_threads_that_ask_together_build_one() -> None:
    calls: list[dict] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        ssl_context(create=create)

    create = counting(calls)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_the_default_is_built_when_it_is_used() -> None:
    calls: list[dict] = []
    setting = TLS(create=counting(calls))
    assert calls == []
    setting.context()
    setting.context()
    assert len(calls) == 1


@deprecated
@pytest.mark.parametrize("wrong", [{"verify": "/no/such/file.pem"}, {"cert": "/no/such/file.pem"}])
def test_a_wrong_path_is_refused_at_once(wrong) -> None:
    with pytest.raises(OSError, match="No such file"):
        TLS(**wrong)


@deprecated
def test_files_are_loaded(files) -> None:
    assert len(TLS(verify=files["ca"]).context().get_ca_certs()) == 1
    assert TLS(verify=False, cert=files["client"]).context().verify_mode == ssl.CERT_NONE


@deprecated
def test_a_certificate_is_loaded_into_a_ready_context_once(files) -> None:
    loaded = []

    class Context(ssl.SSLContext):
        def load_cert_chain(self, *args, **kwargs):
            loaded.append(args)
            return super().load_cert_chain(*args, **kwargs)

    ready = Context(ssl.PROTOCOL_TLS_CLIENT)
    setting = TLS(verify=ready, cert=files["client"])
    assert setting.context() is ready
    assert setting.context() is ready
    assert loaded == [(files["client"],)]
