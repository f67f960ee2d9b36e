"""The client of the Kubeflow Pipelines API against a fake of it, in process: rules, errors, retries and credentials."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from baton.errors import KfpMisconfigured, KfpRefused, KfpTooOld, KfpUnavailable, LaunchUncertain
from baton.kfp import KfpClient, RunState, connect, is_terminal
from baton.kfp.access import EKS_TOKEN_SECONDS, SECRET_SECONDS, EksAccess, SecretAccess
from baton.kfp.answers import is_busy, read_answer, wants_credentials
from baton.kfp.transport import Answer, Unanswered, Unreached
from tests.support.kfp_fake import FakeKfp, InProcess, as_json, grpc_error, losing_answer, uploaded_file
from tests.support.starting import client_error, settings_of


class World:
    """A client of a fake server; ``script`` gives what becomes of the next exchanges, then all goes well."""

    def __init__(self, **fake):
        self.fake = FakeKfp(**fake)
        self.script = []
        self.exchanges = []
        self.pauses = []
        self.client = KfpClient(
            InProcess(self.fake, self._around), namespace="team", sleep=self.pauses.append, user="ann@example.com"
        )

    def _around(self, name, effect):
        self.exchanges.append(name)
        return self.script.pop(0)(effect) if self.script else effect()

    def launched(self, name="bt-1"):
        experiment = self.client.find_or_create_experiment("baton")
        pipeline = self.client.upload_pipeline("p", "d", b"ir")
        version = self.client.upload_version(pipeline.id, "v", b"ir")
        return self.client.create_run(name, experiment.id, version, {"k": 1}, "pods")


@pytest.fixture
def world():
    return World()


def answering(reply):
    return lambda effect: reply


def failing(error):
    def fail(effect):
        raise error

    return fail


UNAVAILABLE = answering(grpc_error(503, 14, "try later"))


def test_a_run_is_created_found_read_and_terminated(world):
    run = world.launched()
    assert world.client.find_runs("bt-1", run.experiment_id) == [run]
    assert world.client.get_run(run.id) == run
    assert (run.pipeline_id, run.state, run.error) == ("pipeline-2", "PENDING", None)
    world.client.terminate_run(run.id)
    assert world.client.get_run(run.id).state == "CANCELING"
    sent = world.fake.runs[run.id]
    assert sent["runtime_config"] == {"parameters": {"k": 1}}
    assert sent["service_account"] == "pods"


def test_what_does_not_exist_is_none(world):
    assert world.client.get_run("none") is None
    assert world.client.find_pipeline("none") is None
    assert world.client.find_experiment("none") is None
    assert world.client.find_runs("none", "none") == []
    assert world.client.find_version("none", "none") is None


def test_an_experiment_that_somebody_made_meanwhile_is_taken(world):
    def made_meanwhile(effect):
        effect()
        return effect()

    world.client.health()
    world.script = [lambda effect: effect(), made_meanwhile]
    assert world.client.find_or_create_experiment("baton").id in world.fake.experiments
    assert len(world.fake.experiments) == 1


def test_uploads_carry_the_file_as_a_form(world):
    world.launched()
    uploads = [(h, b) for _, path, h, b in world.fake.requests if "/upload" in path]
    assert [uploaded_file(headers, body) for headers, body in uploads] == [b"ir", b"ir"]


def test_a_version_is_found_on_a_later_page(world):
    pipeline = world.client.upload_pipeline("p", "d", b"ir")
    for number in range(150):
        world.client.upload_version(pipeline.id, f"v{number}", b"ir")
    assert world.client.find_version(pipeline.id, "v149").name == "v149"


def test_runs_of_the_same_name_come_oldest_first(world):
    first = world.launched()
    second = world.fake.add_run({"display_name": "bt-1", "experiment_id": first.experiment_id})
    world.fake.runs[first.id]["created_at"] = "2026-03-01T10:00:00Z"
    assert [run.id for run in world.client.find_runs("bt-1", first.experiment_id)] == [second["run_id"], first.id]


def test_runs_of_another_name_are_left_out_even_if_the_server_ignores_the_filter(world):
    run = world.launched()
    runs = list(world.fake.runs.values())
    world.script = [answering(as_json({"runs": runs}))]
    assert world.client.find_runs("bt-2", run.experiment_id) == []


@pytest.mark.parametrize("name", ["a+b", "100%"])
def test_names_that_a_filter_would_change_are_refused(world, name):
    with pytest.raises(KfpMisconfigured, match="must not have"):
        world.client.find_experiment(name)


# --- single-user and multi-user ---------------------------------------------------------------------------------------


def test_a_single_user_server_is_never_told_a_namespace(world):
    world.launched()
    world.client.find_runs("bt-1", "experiment-1")
    assert not any("namespace" in target or b"namespace" in body for _, target, _, body in world.fake.requests)


def test_a_multi_user_server_is_told_namespace_and_user():
    world = World(multi_user=True)
    run = world.launched()
    world.client.find_runs("bt-1", run.experiment_id)
    assert world.fake.experiments[run.experiment_id]["namespace"] == "team"
    targets = [target for _, target, _, _ in world.fake.requests]
    assert any("/pipelines/upload?" in target and "namespace=team" in target for target in targets)
    assert any("/runs?" in target and "namespace=team" in target for target in targets)
    assert all(headers["kubeflow-userid"] == "ann@example.com" for _, _, headers, _ in world.fake.requests)


# --- versions of the server -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["2.5.0", "2.13.9", "v2.4.1", "1.8.22", "2.0.0-alpha.7"])
def test_older_servers_are_refused(tag):
    with pytest.raises(KfpTooOld, match=r"needs 2\.14\.0"):
        World(tag=tag).client.require_version()


@pytest.mark.parametrize("tag", ["2.14.0", "2.14.3", "2.17.0", "v3.0.0", "2.15.0-rc.1", "master", "dirty", ""])
def test_newer_and_unknown_servers_pass(tag):
    assert World(tag=tag).client.require_version().tag == tag


@pytest.mark.parametrize("body", [{}, {"status": "ok"}, {"tag_name": 5}, {"multi_user": "no"}])
def test_what_another_server_says_of_its_health_is_not_kubeflows(world, body):
    world.script = [answering(as_json(body))]
    with pytest.raises(KfpMisconfigured, match="The answer is not the API's: /healthz tells no tag_name"):
        world.client.require_version()


@pytest.mark.parametrize("body", [{"multi_user": True}, {"tag_name": "2.17.0"}, {"commit_sha": "c0ffee"}])
def test_a_server_that_tells_a_part_is_kubeflow(world, body):
    world.script = [answering(as_json(body))]
    health = world.client.require_version()
    assert (health.tag, health.multi_user) == (body.get("tag_name", ""), body.get("multi_user", False))


# --- states -----------------------------------------------------------------------------------------------------------


def test_four_states_are_ends():
    assert {state for state in RunState if state.is_terminal} == {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}


def test_a_state_that_nobody_knows_goes_on():
    assert not is_terminal("SOMETHING_NEW")
    assert is_terminal("CANCELED")


def test_a_run_without_a_state_goes_on(world):
    world.script = [answering(as_json({"run_id": "r"}))]
    run = world.client.get_run("r")
    assert (run.state, run.is_terminal) == ("RUNTIME_STATE_UNSPECIFIED", False)


# --- what may be repeated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [UNAVAILABLE, failing(Unreached("refused")), failing(Unanswered("cut")), answering((429, {}, b"slow"))]
)
def test_a_get_is_repeated_until_it_goes_through(world, trouble):
    world.script = [trouble, trouble]
    assert world.client.get_run("none") is None
    assert len(world.pauses) == 2


def test_a_get_is_given_up_after_three_times(world):
    world.script = [UNAVAILABLE] * 3
    with pytest.raises(KfpUnavailable, match="try later"):
        world.client.get_run("r")
    assert len(world.exchanges) == 3


def test_a_get_that_is_refused_is_not_repeated(world):
    world.script = [answering(grpc_error(403, 7, "not allowed"))]
    with pytest.raises(KfpRefused, match="not allowed"):
        world.client.get_run("r")
    assert len(world.exchanges) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        losing_answer,
        failing(Unanswered("timed out")),
        UNAVAILABLE,
        answering(grpc_error(500, 13, "the workflow was created, the row was not")),
        answering((502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>")),
        answering(as_json({})),
        answering((200, {"Content-Type": "application/json"}, b"")),
        answering((200, {"Content-Type": "application/json"}, b'{"run_id": "kfp-')),
        answering((201, {"Content-Type": "application/json"}, b"[]")),
        answering((200, {"Content-Type": "text/html"}, b"<html>the gateway saw nothing</html>")),
    ],
)
def test_a_launch_without_a_clear_answer_is_uncertain_and_never_repeated(world, trouble):
    run = world.launched()
    found = world.client.find_version("pipeline-2", "v")
    world.exchanges.clear()
    world.script = [trouble]
    with pytest.raises(LaunchUncertain):
        world.client.create_run("bt-2", run.experiment_id, found, {})
    assert world.exchanges == ["POST /runs"]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (failing(Unreached("connection refused")), KfpUnavailable),
        (answering(grpc_error(400, 3, "wrong parameters")), KfpRefused),
        (answering(grpc_error(401, 16, "who are you")), KfpRefused),
        (answering(grpc_error(403, 7, "not you")), KfpRefused),
        (answering(grpc_error(404, 5, "the experiment is not found")), KfpRefused),
        (answering((302, {"Location": "https://login.example/?state=secret"}, b"")), KfpMisconfigured),
        (answering((404, {"Content-Type": "text/plain"}, b"404 page not found")), KfpMisconfigured),
    ],
)
def test_a_launch_that_certainly_did_not_happen_says_so(world, trouble, error):
    run = world.launched()
    version = world.client.find_version("pipeline-2", "v")
    world.script = [trouble]
    with pytest.raises(error):
        world.client.create_run("bt-2", run.experiment_id, version, {})
    assert len(world.fake.runs) == 1


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_terminating_what_has_ended_is_a_success(world, state):
    run = world.launched()
    world.fake.runs[run.id]["state"] = state
    world.client.terminate_run(run.id)
    assert world.fake.runs[run.id]["state"] == state


def test_terminating_what_is_not_there_is_a_success(world):
    world.client.terminate_run("none")
    assert "POST /runs/none:terminate" in world.exchanges


def test_a_termination_that_is_refused_for_another_reason_is_told(world):
    run = world.launched()
    world.script = [answering(grpc_error(403, 7, "not allowed"))]
    with pytest.raises(KfpRefused, match="not allowed"):
        world.client.terminate_run(run.id)


# --- the forms of errors ----------------------------------------------------------------------------------------------

K8S_404 = {"kind": "Status", "status": "Failure", "message": 'services "ml-pipeline" not found', "code": 404}
K8S_403 = {"kind": "Status", "status": "Failure", "message": "cannot get resource services/proxy", "code": 403}
K8S_503 = {"kind": "Status", "status": "Failure", "message": 'no endpoints available for "ml-pipeline"', "code": 503}


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (grpc_error(400, 3, "wrong"), KfpRefused, "answered 400: wrong"),
        (grpc_error(409, 6, "exists"), KfpRefused, "answered 409: exists"),
        (grpc_error(500, 13, "oops"), KfpUnavailable, "answered 500: oops"),
        (as_json({"error": "oops", "code": 13}, 500), KfpUnavailable, "oops"),
        (as_json({"error_message": "no file", "error_details": "x"}, 400), KfpRefused, "no file"),
        ((400, {"Content-Type": "text/plain"}, b"plain words"), KfpRefused, "plain words"),
        ((400, {}, b""), KfpRefused, "an empty answer"),
        (as_json(K8S_403, 403), KfpRefused, "services/proxy"),
        (as_json(K8S_404, 404), KfpMisconfigured, "no Kubeflow Pipelines API at this address"),
        (as_json(K8S_503, 503), KfpUnavailable, "no endpoints"),
        ((404, {"Content-Type": "text/plain"}, b"404 page not found"), KfpMisconfigured, "no Kubeflow Pipelines API"),
        ((302, {"Location": "https://dex/auth?client=a"}, b""), KfpMisconfigured, "redirect to https://dex/auth. "),
        ((307, {}, b""), KfpMisconfigured, "You reached the login page, not the API"),
        ((200, {"Content-Type": "text/html"}, b"<p>sign in</p>"), KfpMisconfigured, "login page, not the API"),
        ((200, {}, b"\n<!DOCTYPE html><html>"), KfpMisconfigured, "You reached the login page, not the API"),
        ((403, {"Content-Type": "text/html; charset=utf-8"}, b"sign in"), KfpMisconfigured, "login page"),
        ((503, {"Content-Type": "text/html"}, b"<html>busy</html>"), KfpUnavailable, "busy"),
        ((200, {"Content-Type": "application/json"}, b"[1]"), KfpMisconfigured, "not the API's"),
        ((200, {"Content-Type": "application/json"}, b"nope"), KfpMisconfigured, "not the API's"),
        ((200, {}, b"[" * 100_000), KfpMisconfigured, "not the API's"),
        ((429, {}, b"slow down"), KfpUnavailable, "slow down"),
    ],
)
def test_each_form_of_an_error_has_its_meaning(reply, error, message):
    status, headers, body = reply
    with pytest.raises(error) as caught:
        read_answer(Answer(status, {key.lower(): value for key, value in headers.items()}, body))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert error is KfpMisconfigured or caught.value.status == status


def test_an_error_is_judged_by_its_answers_status_and_not_by_its_words():
    """A server may say in its message whatever it likes."""
    statuses = (400, 401, 403, 408, 409, 425, 429, 500, 503)
    errors = {status: error_of(Answer(status, {}, b"Kubeflow Pipelines answered 429: 403")) for status in statuses}
    assert {status for status, error in errors.items() if is_busy(error)} == {408, 425, 429}
    assert {status for status, error in errors.items() if wants_credentials(error)} == {401, 403}
    assert not is_busy(KfpUnavailable("Kubeflow Pipelines answered 429: it did not"))
    assert not wants_credentials(KfpMisconfigured("Kubeflow Pipelines answered 401: it did not"))


def error_of(answer):
    with pytest.raises((KfpRefused, KfpUnavailable)) as caught:
        read_answer(answer)
    return caught.value


def test_without_an_answer_there_is_no_status(world):
    world.script = [failing(Unanswered("cut"))] * 3
    with pytest.raises(KfpUnavailable) as caught:
        world.client.get_run("r")
    assert caught.value.status is None


def test_kfps_own_not_found_is_none():
    status, _, body = grpc_error(404, 5, "Run x not found")
    assert read_answer(Answer(status, {}, body)) is None


# --- credentials ------------------------------------------------------------------------------------------------------


class Secrets:
    def __init__(self, text):
        self.text = text
        self.read = 0

    def get_secret_value(self, SecretId):
        self.read += 1
        if self.text is None:
            raise client_error("ResourceNotFoundException", 400)
        return {"SecretString": self.text}


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ('{"token": "t0k"}', {"Authorization": "Bearer t0k"}),
        ('{"header": "X-Auth", "value": "v"}', {"X-Auth": "v"}),
        ("bare-token\n", {"Authorization": "Bearer bare-token"}),
    ],
)
def test_a_secret_gives_a_header(text, headers):
    assert SecretAccess(Secrets(text), "arn").headers() == headers


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", '{"header": "X-Auth"}', '{"token": "a\\nb"}', '{"header": "a b", "value": "v"}']
)
def test_a_secret_of_another_form_is_told_without_showing_it(text):
    with pytest.raises(KfpMisconfigured) as error:
        SecretAccess(Secrets(text), "arn").headers()
    assert "arn" in str(error.value)
    assert not text or text not in str(error.value)


def test_a_secret_is_read_again_after_a_while():
    now = [0.0]
    secrets = Secrets('{"token": "old"}')
    access = SecretAccess(secrets, "arn", clock=lambda: now[0])
    access.headers()
    access.headers()
    assert secrets.read == 1
    now[0] = SECRET_SECONDS
    access.headers()
    assert secrets.read == 2
    # docs/security.md promises five minutes.
    assert 60 <= SECRET_SECONDS <= 5 * 60


def login_page(status):
    return Answer(status, {"content-type": "text/html"}, b"<html>Log in</html>")


OLD_TOKEN = [
    Answer(401, {}, b'{"code": 16, "message": "expired"}'),
    Answer(403, {}, b"RBAC: access denied"),
    Answer(302, {"location": "https://login.example.org/?state=x"}, b""),
    login_page(200),
]


@pytest.mark.parametrize("expired", OLD_TOKEN, ids=["401", "403", "302", "page"])
def test_where_the_credentials_may_be_old_they_are_renewed_once(expired):
    secrets, seen = Secrets('{"token": "old"}'), []
    access = SecretAccess(secrets, "arn")
    access.headers()
    secrets.text = '{"token": "new"}'

    class Guarded(InProcess):
        def send(self, request):
            seen.append(request.headers["Authorization"])
            return super().send(request) if seen[-1] == "Bearer new" else expired

    assert KfpClient(Guarded(FakeKfp()), access).get_run("none") is None
    assert seen == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize(("answer", "error"), [(OLD_TOKEN[1], KfpRefused), (login_page(200), KfpMisconfigured)])
def test_the_answer_to_renewed_credentials_counts(answer, error):
    secrets = Secrets('{"token": "any"}')
    access = SecretAccess(secrets, "arn")
    access.headers()
    secrets.text = '{"token": "also wrong"}'

    class Refusing(InProcess):
        sent = 0

        def send(self, request):
            self.sent += 1
            return answer

    transport = Refusing(FakeKfp())
    with pytest.raises(error):
        KfpClient(transport, access).get_run("none")
    assert transport.sent == 2
    assert secrets.read == 2


@pytest.fixture
def sts():
    return boto3.Session("AKIDEXAMPLE", "secret", "session", "cn-northwest-1").client("sts")


def token_url(headers):
    kind, _, token = headers["Authorization"].partition(" ")
    assert kind == "Bearer"
    prefix, _, encoded = token.rpartition(".")
    assert prefix == "k8s-aws-v1"
    assert "=" not in encoded
    return urlsplit(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())


def test_an_eks_token_is_a_presigned_call_that_signs_the_clusters_name(sts):
    url = token_url(EksAccess(sts, "prod").headers())
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert url.netloc == "sts.cn-northwest-1.amazonaws.com.cn"
    assert query["Action"] == "GetCallerIdentity"
    assert query["X-Amz-SignedHeaders"] == "host;x-k8s-aws-id"
    assert query["X-Amz-Expires"] == "60"
    assert query["X-Amz-Security-Token"] == "session"
    assert "ClusterName" not in query


def test_an_eks_token_is_kept_until_shortly_before_it_expires(sts):
    now = [0.0]
    made = []
    generate = sts.generate_presigned_url
    sts.generate_presigned_url = lambda *a, **k: made.append(1) or generate(*a, **k)
    access = EksAccess(sts, "prod", clock=lambda: now[0])
    for moment in (0.0, EKS_TOKEN_SECONDS - 1):
        now[0] = moment
        access.headers()
    assert len(made) == 1
    now[0] = EKS_TOKEN_SECONDS
    access.headers()
    assert len(made) == 2
    # The cluster takes it for 15 minutes, by its own clock.
    assert 12 * 60 <= EKS_TOKEN_SECONDS < 15 * 60 - 60


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "kfp.internal:8888", "ftp://kfp", "http://"])
def test_a_wrong_url_is_told(url):
    with pytest.raises(KfpMisconfigured, match="must begin with http"):
        connect(settings_of(kfp_url=url), lambda name: None)


def test_a_wrong_mode_is_told():
    with pytest.raises(KfpMisconfigured, match="direct or eks-proxy"):
        connect(settings_of(kfp_mode="carrier-pigeon"), lambda name: None)


@pytest.mark.parametrize(
    "authority", ["!", "é", *(base64.b64encode(text.encode()).decode() for text in ("no PEM", "é"))]
)
def test_a_cluster_with_an_unreadable_authority_is_told(authority):
    class Eks:
        def describe_cluster(self, name):
            return {"cluster": {"endpoint": "https://x", "certificateAuthority": {"data": authority}}}

    with pytest.raises(KfpMisconfigured, match=r"certificate authority of the cluster prod: .* is not PEM in base64"):
        connect(settings_of(kfp_mode="eks-proxy", kfp_cluster="prod"), lambda name: Eks())


@pytest.mark.parametrize("status", ["CREATING", "FAILED"])
def test_a_cluster_without_an_api_server_is_told_and_may_have_one_later(status):
    class Eks:
        def describe_cluster(self, name):
            return {"cluster": {"status": status, "certificateAuthority": {}}}

    with pytest.raises(KfpUnavailable, match=f"The cluster prod is {status}: it has no API server"):
        connect(settings_of(kfp_mode="eks-proxy", kfp_cluster="prod"), lambda name: Eks())


def test_the_link_to_a_run_is_the_user_interfaces():
    client = connect(settings_of(kfp_url="https://kfp.example/"), lambda name: None)
    assert client.run_url("r-1") == "https://kfp.example/#/runs/details/r-1"


def test_the_body_of_a_launch_is_json(world):
    world.launched()
    (body,) = [b for m, target, _, b in world.fake.requests if m == "POST" and target.endswith("/runs")]
    assert set(json.loads(body)) == {
        "display_name",
        "experiment_id",
        "pipeline_version_reference",
        "runtime_config",
        "service_account",
    }
