"""The Helm chart, linted and rendered by Helm, its objects checked against the schemas of Kubernetes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from notifier import __version__
from notifier.broker.stream import PORT, TLS_PORT
from notifier.config import Config, load
from notifier.workers.parent import AFTER_GRACE_S
from tests.deploy.conftest import DEPLOY, ROOT
from tests.servers import KEY, lacking
from tests.services.deadline import SECOND

CHART = DEPLOY / "helm" / "notifier"
EVERYTHING: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
    "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True, "labels": {"team": "a"}}},
    "networkPolicy": {"clients": [{"podSelector": {}}], "extraEgress": [{"to": [{"podSelector": {}}]}]},
    "tls": {"secret": "certificate"},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"a": "b"}},
    "image": {"digest": "sha256:" + "0" * 64},
    "trustedProxies": ["10.0.0.0/8", "192.0.2.1/32"],
    "allowedOrigins": ["https://app.example.com"],
    "workers": 4,
    "podLabels": {"a": "b"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "affinity": {"podAntiAffinity": {}},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "registry"}],
    "extraEnv": [{"name": "NOTIFIER_LOGGING__LEVEL", "value": "debug"}],
    "extraVolumes": [{"name": "tls", "secret": {"secretName": "tls"}}],
    "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    ],
}
OF_AN_OPERATOR = {"ServiceMonitor", "PrometheusRule"}


def helm(what: str, values: dict[str, Any]) -> Any:
    """What Helm answers. Raises ValueError with what it says."""
    for module in ("helm_python", "kubernetes_validate"):
        if importlib.util.find_spec(module) is None:
            lacking(f"the Python package {module} is not installed; `make test` installs it")
    argv = [sys.executable, "-m", "tests.deploy.helm", what, str(CHART)]
    done = subprocess.run(argv, input=json.dumps(values).encode(), capture_output=True, cwd=ROOT, timeout=60 * SECOND)
    if done.returncode:
        raise ValueError(done.stderr.decode())
    return json.loads(done.stdout)


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    texts = [text for name, text in helm("render", values).items() if name.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def only(objects: list[dict[str, Any]], kind: str, name: str = "release-notifier") -> dict[str, Any]:
    [found] = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


@pytest.fixture(scope="module")
def default() -> list[dict[str, Any]]:
    return render({})


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    return render(EVERYTHING)


def config_of(objects: list[dict[str, Any]], folder: Path) -> Config:
    """What a server in such a pod would run with. Raises ConfigError."""
    [container] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    environ = {each["name"]: each.get("value", "pod-1") for each in container["env"]}
    environ |= {"NOTIFIER_RABBITMQ__URL": "amqp://a:b@rabbitmq/", "NOTIFIER_AUTH__HMAC_KEYS": KEY}
    file = folder / "config.toml"
    file.write_text(only(objects, "ConfigMap")["data"]["config.toml"])
    return load(file, environ)


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["as it is", "with everything"])
def test_helm_finds_nothing_wrong(values: dict[str, Any]) -> None:
    report = helm("lint", values)
    assert report["total_charts_linted"] == 1
    assert not report["errors"]
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize("version", ["1.27", "1.31", "1.37"])
def test_kubernetes_would_take_each_object(
    default: list[dict[str, Any]], everything: list[dict[str, Any]], version: str
) -> None:
    import kubernetes_validate

    kinds = set()
    for found in [*default, *everything]:
        kinds.add(found["kind"])
        if found["kind"] not in OF_AN_OPERATOR:
            kubernetes_validate.validate(found, version, strict=True)
    assert kinds == OF_AN_OPERATOR | {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget",
        "Service", "ServiceAccount",
    }  # fmt: skip


def test_the_schema_check_notices_what_is_wrong(default: list[dict[str, Any]]) -> None:
    import kubernetes_validate

    wrong = json.loads(json.dumps(only(default, "Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["port"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_the_server_accepts_what_a_pod_gives_it(
    default: list[dict[str, Any]], everything: list[dict[str, Any]], tmp_path: Path
) -> None:
    config = config_of(default, tmp_path)
    assert (config.server.host, config.server.port, config.server.name) == ("0.0.0.0", 8000, "pod-1")
    assert (config.admin.host, config.admin.port) == ("0.0.0.0", 8001)
    assert config.server.trusted_proxies == config.server.allowed_origins == []
    full = config_of(everything, tmp_path)
    assert full.server.workers == 4
    assert full.server.trusted_proxies == ["10.0.0.0/8", "192.0.2.1/32"]
    assert full.server.allowed_origins == ["https://app.example.com"]


def test_a_pod_has_the_time_that_leaving_takes(default: list[dict[str, Any]], tmp_path: Path) -> None:
    pod = only(default, "Deployment")["spec"]["template"]["spec"]
    server = config_of(default, tmp_path).server
    assert pod["terminationGracePeriodSeconds"] > server.shutdown_grace + AFTER_GRACE_S
    probe = pod["containers"][0]["readinessProbe"]
    assert server.shutdown_delay > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert probe["httpGet"] == {"path": "/readyz", "port": "clients", "scheme": "HTTP"}
    for name in ("livenessProbe", "startupProbe"):
        assert pod["containers"][0][name]["httpGet"] == {"path": "/livez", "port": "clients", "scheme": "HTTP"}


def test_a_pod_may_do_as_little_as_the_restricted_standard_asks_for(default: list[dict[str, Any]]) -> None:
    pod = only(default, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    user = f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user in (DEPLOY / "docker" / "Dockerfile").read_text()


def test_nothing_leads_to_operators_listener_but_a_service_of_its_own(everything: list[dict[str, Any]]) -> None:
    clients, admin = only(everything, "Service"), only(everything, "Service", "release-notifier-admin")
    assert [port["targetPort"] for port in clients["spec"]["ports"]] == ["clients"]
    assert [port["targetPort"] for port in admin["spec"]["ports"]] == ["admin"]
    assert admin["spec"]["type"] == "ClusterIP"
    [rule] = only(everything, "Ingress")["spec"]["rules"]
    assert {path["path"] for path in rule["http"]["paths"]} == {"/connection", "/emulation", "/sse", "/ws"}
    assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {"release-notifier"}
    policy = only(everything, "NetworkPolicy")["spec"]
    [to_admin] = [each for each in policy["ingress"] if each["ports"] == [{"port": "admin"}]]
    assert to_admin["from"], "not everybody"


def test_with_a_certificate_all_that_asks_a_pod_speaks_tls(everything: list[dict[str, Any]], tmp_path: Path) -> None:
    pod = only(everything, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    server = config_of(everything, tmp_path).server
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "tls-of-listeners"]
    assert (server.tls_certificate, server.tls_key) == (
        f"{mount['mountPath']}/tls.crt",
        f"{mount['mountPath']}/tls.key",
    )
    [volume] = [each for each in pod["volumes"] if each["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == "certificate"
    assert {container[f"{kind}Probe"]["httpGet"]["scheme"] for kind in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    [endpoint] = only(everything, "ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"serverName": "notify.example.com"})


def test_the_network_lets_pods_reach_all_that_the_server_may_connect_to(default: list[dict[str, Any]]) -> None:
    """By the ports that URLs without one mean."""
    ports = {port["port"] for rule in only(default, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
    amqp, amqps, redis, https, dns = 5672, 5671, 6379, 443, 53
    assert ports == {amqp, amqps, PORT, TLS_PORT, redis, https, dns}


def test_the_monitor_finds_the_service_and_names_the_job(everything: list[dict[str, Any]]) -> None:
    monitor = only(everything, "ServiceMonitor")["spec"]
    labels = only(everything, "Service", "release-notifier-admin")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    other = only(everything, "Service")["metadata"]["labels"]
    assert not monitor["selector"]["matchLabels"].items() <= other.items()
    [endpoint] = monitor["endpoints"]
    assert {"targetLabel": "job", "replacement": "notifier"} in endpoint["relabelings"]


def test_the_rules_are_the_ones_that_are_tested(everything: list[dict[str, Any]]) -> None:
    alerts = DEPLOY / "prometheus" / "alerts.yml"
    assert (CHART / "files" / "alerts.yml").read_text() == alerts.read_text(), "copy it: a chart holds its own files"
    assert only(everything, "PrometheusRule")["spec"] == yaml.safe_load(alerts.read_text())


def test_pods_are_scaled_by_what_the_adapter_offers(everything: list[dict[str, Any]]) -> None:
    metrics = only(everything, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["Pods", "Resource"]
    [rule] = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yml").read_text())["rules"]["custom"]
    assert metrics[0]["pods"]["metric"]["name"] == rule["name"]["as"]
    assert "replicas" not in only(everything, "Deployment")["spec"], "the autoscaler decides"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"shutdown": {"delay": 20, "grace": 20}}, "shutdown.grace must be longer"),
        ({"admin": {"port": 8000}}, "clients' listener"),
        ({"autoscaling": {"enabled": True, "connections": 0, "cpu": 0}}, "connections, cpu or both"),
        ({"existingSecret": ""}, "existingSecret"),
        ({"replicaCount": 3}, "replicaCount"),
        ({"probes": {"readiness": {"periodSeconds": 0}}}, "periodSeconds"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        render(values)


def test_the_chart_has_the_server_s_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
