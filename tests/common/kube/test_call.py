import pytest

from common.kube.call import Call, path_of


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("v1", "nodes"), "/api/v1/nodes"),
        (("v1", "nodes", "", "gpu-1"), "/api/v1/nodes/gpu-1"),
        (("v1", "pods", "default"), "/api/v1/namespaces/default/pods"),
        (("v1", "pods", "default", "a", "log"), "/api/v1/namespaces/default/pods/a/log"),
        (("batch/v1", "jobs", "x", "eidos"), "/apis/batch/v1/namespaces/x/jobs/eidos"),
        (("v1", "namespaces", "", "x"), "/api/v1/namespaces/x"),
        (("v1", "configmaps", "a/b", "c?d"), "/api/v1/namespaces/a%2Fb/configmaps/c%3Fd"),
    ],
)
def test_path(arguments: tuple[str, ...], path: str) -> None:
    assert path_of(*arguments) == path


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("GET", "/api/v1/nodes"), "list nodes"),
        (Call("GET", "/api/v1/nodes", {"watch": "true"}), "watch nodes"),
        (Call("GET", "/api/v1/nodes/gpu-1"), "get nodes gpu-1"),
        (Call("GET", "/api/v1/namespaces/x"), "get namespaces x"),
        (Call("GET", "/api/v1/namespaces"), "list namespaces"),
        (Call("GET", "/api/v1/namespaces/x/pods/a/log"), "get pods/log a in namespace x"),
        (Call("POST", "/apis/batch/v1/namespaces/x/jobs"), "create jobs.batch in namespace x"),
        (Call("PATCH", "/api/v1/namespaces/x/configmaps/c"), "patch configmaps c in namespace x"),
        (Call("PUT", "/api/v1/namespaces/x/configmaps/c"), "update configmaps c in namespace x"),
        (Call("DELETE", "/api/v1/namespaces/x/configmaps/c%2Fd"), "delete configmaps c/d in namespace x"),
        (Call("GET", "/version"), "get /version"),
        (Call("GET", "/apis"), "get /apis"),
    ],
)
def test_a_call_in_words(call: Call, words: str) -> None:
    assert str(call) == words


def test_the_query_is_escaped() -> None:
    call = Call("GET", "/api/v1/nodes", {"labelSelector": "a=b,c!=d", "limit": 500})
    assert call.url == "/api/v1/nodes?labelSelector=a%3Db%2Cc%21%3Dd&limit=500"


def test_only_creating_twice_differs_from_creating_once() -> None:
    assert [Call(method, "/").repeatable for method in ("GET", "PUT", "PATCH", "DELETE", "POST")] == [True] * 4 + [
        False
    ]
