"""The client on the wire: kfp-server-api's models read what it sends, and servers check what reaches them."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import socket
import ssl
import struct
import time
from contextlib import contextmanager, suppress
from threading import Event, Thread, current_thread
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import boto3
import kfp_server_api
import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from baton.errors import KfpMisconfigured, KfpRefused, KfpUnavailable, LaunchUncertain
from baton.kfp import KfpClient, RunState, connect
from baton.kfp import client as client_module
from baton.kfp.models import Run, Version
from baton.kfp.transport import Request, Transport, Unanswered, Unreached
from baton.things import PHASES, Phase
from tests.support.kfp_fake import API, FakeKfp, as_json, serving, uploaded_file
from tests.support.starting import settings_of

SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


class _Body:
    def __init__(self, content):
        self.data = content if isinstance(content, str) else json.dumps(content)


def deserialised(content, model):
    """Read JSON as the generated client does, and refuse what its model does not know."""
    plain = json.loads(content) if isinstance(content, str | bytes) else content
    read = kfp_server_api.ApiClient().deserialize(_Body(plain), model)
    assert set(plain) <= set(getattr(kfp_server_api, model).attribute_map.values())
    return read


def launch(client):
    experiment = client.find_or_create_experiment("baton")
    pipeline = client.find_pipeline("p") or client.upload_pipeline("p", "d", b"the: ir")
    version = client.find_version(pipeline.id, "v") or client.upload_version(pipeline.id, "v", b"the: ir")
    return client.create_run("bt-1", experiment.id, version, {"k": 10, "x": 0.5}, "pods")


@pytest.fixture
def fake():
    return FakeKfp()


@pytest.fixture
def client(fake):
    with serving(fake.answer) as port:
        yield connect(settings_of(kfp_url=f"http://localhost:{port}"), lambda name: None)


def test_every_state_of_the_api_is_known():
    known = set(kfp_server_api.V2beta1RuntimeState.allowable_values)
    assert {state.value for state in RunState} == known
    assert set(PHASES["pipeline-run"]) == known


def test_the_ends_are_those_that_end_a_wait():
    ends = {state for state, phase in PHASES["pipeline-run"].items() if phase in (Phase.SUCCEEDED, Phase.FAILED)}
    assert {state.value for state in RunState if state.is_terminal} == ends


def test_what_is_sent_is_the_apis(client, fake):
    launch(client)
    posts = {urlsplit(target).path.removeprefix(API): body for m, target, _, body in fake.requests if m == "POST"}
    run = deserialised(posts["/runs"], "V2beta1Run")
    assert (run.display_name, run.service_account) == ("bt-1", "pods")
    assert run.runtime_config.parameters == {"k": 10, "x": 0.5}
    assert run.runtime_config.pipeline_root is None
    assert run.pipeline_version_reference.pipeline_version_id in fake.versions
    assert deserialised(posts["/experiments"], "V2beta1Experiment").display_name == "baton"
    assert fake.uploads
    assert all(
        uploaded_file(headers, body) == b"the: ir" for _, target, headers, body in fake.requests if "/upload" in target
    )


def test_the_query_of_a_list_is_the_apis(client, fake):
    client.find_runs("bt-1", "e-1")
    query = dict(parse_qsl(urlsplit(fake.requests[-1][1]).query))
    # The server decodes a filter twice.
    filter_ = deserialised(unquote(query.pop("filter")), "V2beta1Filter")
    assert [p.to_dict()["key"] for p in filter_.predicates] == ["display_name"]
    assert set(query) <= {"namespace", "experiment_id", "page_token", "page_size", "sort_by"}
    assert "+" not in urlsplit(fake.requests[-1][1]).query


def test_a_predicate_is_written_as_the_sdk_writes_it(client, fake):
    client.find_runs("bt-1", "e-1")
    query = dict(parse_qsl(urlsplit(fake.requests[-1][1]).query))
    assert json.loads(query["filter"]) == {
        "predicates": [{"operation": 1, "key": "display_name", "stringValue": "bt-1"}]
    }


def test_answers_are_read_as_the_generated_client_reads_them(client, fake):
    run = launch(client)
    answer = {**fake.runs[run.id], "state": "FAILED", "error": {"code": 13, "message": "conversion"}}
    theirs, ours = deserialised(answer, "V2beta1Run"), Run.read(answer)
    assert (ours.id, ours.state, ours.experiment_id) == (theirs.run_id, theirs.state, theirs.experiment_id)
    assert ours.error == theirs.error.message
    assert ours.version_id == theirs.pipeline_version_reference.pipeline_version_id
    assert ours.display_name == theirs.display_name


def test_runs_started_by_the_client_are_found_by_the_generated_one(client, fake):
    run = launch(client)
    with serving(fake.answer) as port:
        configuration = kfp_server_api.Configuration(host=f"http://localhost:{port}")
        with kfp_server_api.ApiClient(configuration) as api:
            theirs = kfp_server_api.RunServiceApi(api).run_service_get_run(run.id)
    assert theirs.display_name == "bt-1"


# --- servers that do not answer as they should ------------------------------------------------------------------------


def fast(port, **options):
    return KfpClient(Transport(f"http://localhost:{port}"), sleep=lambda _: None, **options)


def test_nobody_listening_is_unavailable_and_certain():
    with serving(lambda *_: as_json({})) as port:
        pass
    with pytest.raises(Unreached, match=r"^Failed to establish a new connection: \[Errno \d+\] Connection refused$"):
        Transport(f"http://127.0.0.1:{port}").send(Request("GET", "/", {}))
    with pytest.raises(KfpUnavailable, match="did not answer"):
        fast(port).get_run("r")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
        b"not HTTP at all\r\n\r\n",
    ],
)
def test_a_connection_that_is_cut_leaves_a_launch_uncertain(fake, answer):
    posts = []

    def cut(method, target, headers, body):
        if method == "POST" and target.endswith("/runs"):
            posts.append(target)
            fake.answer(method, target, headers, body)
            return 0, {}, answer
        return fake.answer(method, target, headers, body)

    with serving(cut) as port, pytest.raises(LaunchUncertain):
        launch(fast(port))
    assert len(posts) == 1
    assert len(fake.runs) == 1


def test_a_launch_travels_on_a_connection_of_its_own(fake):
    """One that went stale while the sandbox slept would make the answer uncertain."""
    connections = {}

    def noting(method, target, headers, body):
        # The server has a thread for each connection.
        connections.setdefault(current_thread(), []).append(f"{method} {urlsplit(target).path.removeprefix(API)}")
        return fake.answer(method, target, headers, body)

    with serving(noting) as port:
        launch(fast(port))
    before, launched = connections.values()
    assert len(before) > 1
    assert launched == ["POST /runs"]


@pytest.mark.parametrize("answer", [(0, {}, b""), (503, {"Retry-After": "0"}, b""), (302, {"Location": "/"}, b"")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_transport_repeats_nothing(method, answer):
    asked = []
    with serving(lambda *request: asked.append(request) or answer) as port, suppress(Unanswered):
        Transport(f"http://localhost:{port}").send(Request(method, "/", {}))
    assert len(asked) == 1


@pytest.mark.parametrize(("seconds", "limit"), [(20, 5), (2, 2)])
def test_a_connection_must_come_about_soon(monkeypatch, seconds, limit):
    waits = []

    def silent(self, address):
        waits.append(self.gettimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket.socket, "connect", silent)
    with pytest.raises(Unreached, match=r"^Connection to 127\.0\.0\.1 timed out"):
        Transport("http://127.0.0.1:1").send(Request("GET", "/", {}, seconds=seconds))
    assert waits == [limit]


def test_a_launch_that_is_answered_too_late_is_uncertain(fake, monkeypatch):
    monkeypatch.setattr(client_module, "POST_SECONDS", 0.3)

    def slow(method, target, headers, body):
        reply = fake.answer(method, target, headers, body)
        if method == "POST" and target.endswith("/runs"):
            time.sleep(1)
        return reply

    with serving(slow) as port, pytest.raises(LaunchUncertain):
        launch(fast(port))
    assert len(fake.runs) == 1


@contextmanager
def talking(talk, wrap=lambda connection: connection):
    """Serve one connection by a function that takes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with suppress(OSError), connection, wrap(connection) as server:
                talk(server)

        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def dripping(beginning, drop):
    """Begin an answer, and go on with it drop by drop for three seconds."""

    def talk(connection):
        connection.recv(65536)
        connection.sendall(beginning)
        for _ in range(60):
            connection.sendall(drop)
            time.sleep(0.05)

    return talk


def stalling(before, answer):
    """Answer late, and then no more."""

    def talk(connection):
        connection.recv(65536)
        time.sleep(before)
        connection.sendall(answer)
        connection.recv(1)

    return talk


def reading_slowly(connection):
    while all(connection.recv(16 * 1024) for _ in range(5)):
        time.sleep(0.05)


BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n"


@pytest.mark.parametrize(
    ("talk", "seconds"),
    [
        (stalling(0, b""), 0.3),
        (stalling(0.9, BEGUN + b"\r\n"), 1.0),
        (dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), 0.3),
        (dripping(BEGUN, b"X-More: 1\r\n"), 0.3),
        (dripping(BEGUN + b"X-More: ", b"1"), 0.3),
        (dripping(BEGUN + b"\r\n", b" "), 0.3),
    ],
    ids=["silent", "body that stalls", "100 Continue for ever", "headers", "one header", "body"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_exchange_ends_in_time_whatever_the_server_does(authority, tmp_path, talk, seconds, scheme):
    with over(scheme, authority, tmp_path, talk) as transport:
        error, took = given_up(transport, Request("GET", "/", {}, seconds=seconds))
    assert error.startswith("ReadTimeoutError: ")
    # It goes into a run's cause, where a name of urllib3's parts is nobody's.
    assert "Pool" not in error
    assert took < seconds + 0.6


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_the_server_takes_too_slowly_is_given_up(authority, tmp_path, scheme):
    with over(scheme, authority, tmp_path, reading_slowly) as transport:
        error, took = given_up(transport, Request("POST", "/", {}, b" " * 20_000_000, seconds=0.3))
    assert "TimeoutError" in error
    assert took < 1.5


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upload_has_the_exchanges_time_and_not_only_the_connections(authority, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr("baton.kfp.transport._CONNECT_SECONDS", 0.2)

    def pausing(connection):
        time.sleep(0.5)
        left = len(body)
        while left > 0:
            left -= len(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.recv(1)

    body = b" " * 20_000_000
    with over(scheme, authority, tmp_path, pausing) as transport:
        assert transport.send(Request("POST", "/", {}, body, seconds=10)).body == b"{}"


def given_up(transport, request):
    """Return what is said of an exchange that comes to nothing, and how many seconds it took."""
    began = time.monotonic()
    with pytest.raises(Unanswered) as caught:
        transport.send(request)
    return str(caught.value), time.monotonic() - began


@contextmanager
def over(scheme, authority, folder, talk):
    """Make a transport to a server that talks as it is told."""
    context = authority.server_context(folder)
    secured = {"https": lambda connection: context.wrap_socket(connection, server_side=True)}
    with talking(talk, secured.get(scheme, lambda connection: connection)) as port:
        pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=authority.pem.decode()))
        yield Transport(f"{scheme}://localhost:{port}", pool)


def test_a_connection_that_is_used_again_has_the_new_exchanges_time():
    with serving(lambda *_: as_json({})) as port:
        transport = Transport(f"http://localhost:{port}")
        transport.send(Request("GET", "/", {}, seconds=0.3))
        time.sleep(0.4)
        assert transport.send(Request("GET", "/", {}, seconds=5)).status == 200


def test_nothing_is_sent_where_the_time_is_up_once_the_connection_is_there(monkeypatch):
    asked = []
    connect = socket.socket.connect

    def slowly(self, address):
        time.sleep(0.4)
        connect(self, address)

    with serving(lambda *request: asked.append(request) or as_json({})) as port:
        monkeypatch.setattr(socket.socket, "connect", slowly)
        with pytest.raises(Unreached, match=r"^Connection to localhost came too late\.$"):
            Transport(f"http://localhost:{port}").send(Request("POST", "/", {}, b"x", seconds=0.3))
        monkeypatch.undo()
    assert asked == []


def test_an_answer_without_end_is_given_up_and_its_connection_closed(monkeypatch):
    monkeypatch.setattr("baton.kfp.transport.MAX_ANSWER_BYTES", 1000)
    ended = Event()

    def endless(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(200):
                connection.sendall(b" " * 2000)
                time.sleep(0.02)
        except ConnectionError:
            ended.set()

    with talking(endless) as port:
        # A frame of the error that is kept has the response, so that nothing but a call closes it.
        with pytest.raises(Unanswered, match="more than 1000") as kept:
            Transport(f"http://localhost:{port}").send(Request("GET", "/", {}))
        assert ended.wait(3), kept


def test_a_redirect_to_a_login_page_is_not_followed():
    asked = []

    def login(method, target, headers, body):
        asked.append(target)
        return 302, {"Location": "/dex/auth?state=s3cret"}, b""

    with serving(login) as port, pytest.raises(KfpMisconfigured) as error:
        fast(port).get_run("r")
    assert len(asked) == 1
    assert "You reached the login page, not the API" in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_storm_of_server_errors_ends_with_the_last_one():
    page = b"<html>envoy: overflow</html>"
    with serving(lambda *_: (503, {"Content-Type": "text/html"}, page)) as port, pytest.raises(KfpUnavailable) as error:
        fast(port).get_run("r")
    assert "envoy: overflow" in str(error.value)


def test_a_host_that_does_not_exist_is_unavailable():
    client = KfpClient(Transport("http://kfp.invalid"), sleep=lambda _: None)
    with pytest.raises(KfpUnavailable, match=r"did not answer \S+: Failed to resolve 'kfp\.invalid'"):
        client.get_run("r")


def test_a_token_from_the_secret_reaches_the_server(fake):
    class Secrets:
        def get_secret_value(self, SecretId):
            assert SecretId == "arn:secret"
            return {"SecretString": '{"token": "t0k"}'}

    def guarded(method, target, headers, body):
        if headers.get("Authorization") != "Bearer t0k":
            return as_json({"code": 16, "message": "no token"}, 401)
        return fake.answer(method, target, headers, body)

    with serving(guarded) as port:
        settings = settings_of(kfp_url=f"http://localhost:{port}/", kfp_secret_arn="arn:secret")
        assert connect(settings, lambda name: Secrets()).get_run("none") is None
        with pytest.raises(KfpRefused, match="no token"):
            connect(settings_of(kfp_url=f"http://localhost:{port}"), lambda name: Secrets()).get_run("none")


# --- through the Kubernetes API server --------------------------------------------------------------------------------


class Authority:
    """A certificate authority, and server certificates of it."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        self.certificate = self._signed(self._name, self._key.public_key(), ca=True)

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self, folder, host="localhost"):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._signed(name, key.public_key(), ca=False, host=host)
        file = folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(self, name, public_key, ca, host="localhost"):
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName(host)]
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def signature_is_right(url, cluster):
    """Check a presigned URL as STS does (AWS Signature Version 4, query form), with the cluster's name as header."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    given = query.pop("X-Amz-Signature")
    assert query["X-Amz-SignedHeaders"] == "host;x-k8s-aws-id"
    canonical_query = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
    headers = f"host:{parts.netloc}\nx-k8s-aws-id:{cluster}\n"
    empty = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n{parts.path or '/'}\n{canonical_query}\n{headers}\nhost;x-k8s-aws-id\n{empty}"
    _, date, region, service, end = query["X-Amz-Credential"].split("/")
    scope = f"{date}/{region}/{service}/{end}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    key = b"AWS4" + SECRET_KEY.encode()
    for part in (date, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest(), given)


class ApiServer:
    """As much of a Kubernetes API server as a service proxy needs: authentication, RBAC, and dropping the token."""

    def __init__(self, fake, cluster="prod", namespace="kubeflow"):
        self.fake = fake
        self.cluster = cluster
        self.prefix = f"/api/v1/namespaces/{namespace}/services/ml-pipeline:http/proxy"

    def answer(self, method, target, headers, body):
        _, _, token = headers.get("Authorization", "").partition("Bearer k8s-aws-v1.")
        if not token or not self._is_good(token):
            return as_json({"kind": "Status", "status": "Failure", "message": "Unauthorized", "code": 401}, 401)
        if not target.startswith(self.prefix + "/apis/"):
            return as_json({"kind": "Status", "status": "Failure", "message": f"forbidden: {target}"}, 403)
        passed_on = {name: value for name, value in headers.items() if name != "Authorization"}
        return self.fake.answer(method, target.removeprefix(self.prefix), passed_on, body)

    def _is_good(self, token):
        url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        return "Action=GetCallerIdentity" in url and signature_is_right(url, self.cluster)


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def clients(authority):
    class Eks:
        ca = authority.pem
        port = 0

        def describe_cluster(self, name):
            data = base64.b64encode(self.ca).decode()
            endpoint = f"https://localhost:{self.port}"
            return {"cluster": {"endpoint": endpoint, "certificateAuthority": {"data": data}}}

    sts = boto3.Session("AKIDEXAMPLE", SECRET_KEY, region_name="eu-west-1").client("sts")
    return {"eks": Eks(), "sts": sts}


def through_eks(clients, cluster="prod", **settings):
    return connect(settings_of(kfp_mode="eks-proxy", kfp_cluster=cluster, **settings), lambda name: clients[name])


def test_the_proxy_is_reached_with_tls_a_signed_token_and_the_rbac_path(fake, authority, clients, tmp_path):
    context = authority.server_context(tmp_path)
    with serving(ApiServer(fake).answer, lambda s: context.wrap_socket(s, server_side=True)) as port:
        clients["eks"].port = port
        client = through_eks(clients)
        run = launch(client)
        assert client.get_run(run.id).display_name == "bt-1"
        assert client.run_url(run.id) == (
            f"https://localhost:{port}/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy{API}/runs/{run.id}"
        )
    assert not any("Authorization" in headers for _, _, headers, _ in fake.requests)


def test_another_clusters_token_is_refused(fake, authority, clients, tmp_path):
    context = authority.server_context(tmp_path)
    with serving(ApiServer(fake).answer, lambda s: context.wrap_socket(s, server_side=True)) as port:
        clients["eks"].port = port
        with pytest.raises(KfpRefused, match="Unauthorized"):
            through_eks(clients, cluster="another").get_run("r")


def test_a_namespace_without_rights_is_refused(fake, authority, clients, tmp_path):
    context = authority.server_context(tmp_path)
    with serving(ApiServer(fake).answer, lambda s: context.wrap_socket(s, server_side=True)) as port:
        clients["eks"].port = port
        with pytest.raises(KfpRefused, match="forbidden: /api/v1/namespaces/other/"):
            through_eks(clients, kfp_namespace="other").get_run("r")


def test_a_server_that_the_system_trusts_is_not_the_clusters(fake, clients, tmp_path, monkeypatch):
    systems = Authority()
    trusted = tmp_path / "system.pem"
    trusted.write_bytes(systems.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    context = systems.server_context(tmp_path)
    with serving(fake.answer, lambda s: context.wrap_socket(s, server_side=True)) as port:
        direct = connect(settings_of(kfp_url=f"https://localhost:{port}"), lambda name: None)
        assert direct.get_run("none") is None
        fake.requests.clear()
        clients["eks"].port = port
        with pytest.raises(KfpMisconfigured, match="TLS connection"):
            through_eks(clients).get_run("r")
    assert fake.requests == []


def test_a_server_of_the_authority_with_another_name_is_not_the_clusters(fake, authority, clients, tmp_path):
    context = authority.server_context(tmp_path, host="kubelet.internal")
    with serving(fake.answer, lambda s: context.wrap_socket(s, server_side=True)) as port:
        clients["eks"].port = port
        with pytest.raises(KfpMisconfigured, match=r"TLS connection .*localhost"):
            through_eks(clients).get_run("r")
    assert fake.requests == []


def test_a_direct_server_with_an_unknown_certificate_is_not_trusted(fake, authority, tmp_path):
    context = authority.server_context(tmp_path)
    with serving(fake.answer, lambda s: context.wrap_socket(s, server_side=True)) as port:
        client = connect(settings_of(kfp_url=f"https://localhost:{port}"), lambda name: None)
        with pytest.raises(KfpMisconfigured, match="TLS connection"):
            client.get_run("r")


# --- TLS that fails before, or after, something was sent --------------------------------------------------------------


@contextmanager
def breaking_tls(context):
    """Serve one TLS connection: take its request, and answer with a record that cannot be deciphered."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as secured:
                taken.append(secured.recv(65536))
                os.write(secured.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
                secured.recv(1)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], taken
        thread.join(10)


@pytest.fixture
def trusting(authority):
    """Make a client of a port on this host that trusts the authority."""

    def client(port):
        pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=authority.pem.decode()))
        return KfpClient(Transport(f"https://localhost:{port}", pool), sleep=lambda _: None)

    return client


VERSION = Version("version-1", "pipeline-1", "v")


def test_a_tls_error_after_the_post_was_sent_leaves_the_launch_uncertain(authority, trusting, tmp_path):
    with breaking_tls(authority.server_context(tmp_path)) as (port, taken), pytest.raises(LaunchUncertain):
        trusting(port).create_run("bt-1", "experiment-1", VERSION, {})
    assert taken[0].startswith(b"POST ")


def test_a_tls_error_before_anything_was_sent_is_a_wrong_configuration(authority, trusting, fake, tmp_path):
    context = Authority().server_context(tmp_path)

    def wrap(sock):
        return context.wrap_socket(sock, server_side=True)

    with serving(fake.answer, wrap) as port, pytest.raises(KfpMisconfigured, match="TLS connection"):
        trusting(port).create_run("bt-1", "experiment-1", VERSION, {})
    assert fake.requests == []


def closing(connection):
    connection.recv(65536)


def taking_leave(connection):
    connection.recv(65536)
    # The alert that closes a TLS connection, before there is one.
    connection.sendall(bytes((21, 3, 3, 0, 2, 1, 0)))


def resetting(connection):
    connection.recv(65536)
    # Closed with a time to linger of nothing, a connection is reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def saying_nothing(connection):
    connection.recv(65536)
    connection.recv(1)


@pytest.mark.parametrize("talk", [closing, taking_leave, resetting, saying_nothing])
def test_a_handshake_that_is_cut_or_stalls_is_no_connection(trusting, monkeypatch, talk):
    """Nothing was sent, and the next one may go well: ADR 0006 frees the launch's lease."""
    monkeypatch.setattr("baton.kfp.transport._CONNECT_SECONDS", 0.3)
    with talking(talk) as port, pytest.raises(KfpUnavailable, match="reached: The TLS handshake with") as error:
        trusting(port).create_run("bt-1", "experiment-1", VERSION, {})
    assert isinstance(error.value.__cause__, Unreached)
    assert error.value.retryable


def test_the_transport_uses_urllib3_2():
    # read1, which keeps a dripping answer from blocking, came with it.
    assert int(urllib3.__version__.split(".")[0]) >= 2


def test_a_listed_run_carries_the_parameters_by_which_it_is_known(client):
    run = launch(client)
    assert {"run_id", "runtime_config"} <= set(kfp_server_api.V2beta1Run.openapi_types)
    [listed] = client.find_runs("bt-1", run.experiment_id)
    assert listed.parameters == run.parameters == {"k": 10, "x": 0.5}
