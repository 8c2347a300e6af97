"""The image, the compose file and the Kubernetes base: every part of them is there, and they agree with each other."""

import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from correlator.redis_client import connect
from receiver.durability import check_durability
from receiver.embedded import find_server
from receiver.settings import Settings, explain, parse
from receiver.worker import GRACE_SECONDS
from tests.farm import free_port
from tests.npm import is_required
from tests.processes import started
from tests.programs import program
from tests.proxies import CADDY, HOST
from tests.service import SECRETS, public_key
from tests.test_deploy import DEPLOY, ROOT, commands_in, takes

KUBERNETES = DEPLOY / "kubernetes"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
#: What checks them in others' words; `make test-deep` fetches it.
VALIDATORS = ["kubernetes-validate==1.37.0", "compose-spec==0.2.1"]
USER = 10001
#: What the image is made of, by the names that it has in the project's root.
COPIED = {
    name.rstrip("/")
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    for name in line.split()[:-1]
}
#: Supervisor, workers, pipelines and an embedded Redis, one after the other.
STOPPING_SECONDS = 2 * (GRACE_SECONDS + 5) + 10


def settings_of(path: Path, folder: Path) -> Settings:
    """A configuration for containers, its secrets in a folder instead of /run/secrets."""
    (folder / "id_key").write_text("an-id-key-of-thirty-two-characters\n")
    (folder / "api_token").write_text("an-api-token-of-thirty-two-characters\n")
    (folder / "redis_url").write_text("redis://partyline:a-password@redis:6379\n")
    (folder / "telnyx_public_key").write_text(public_key(SECRETS["telnyx"][0]) + "\n")
    return parse(tomllib.loads(path.read_text().replace("/run/secrets", str(folder))), {}, folder)


def secrets_in(path: Path) -> set[str]:
    """The secrets that a configuration reads."""
    return set(re.findall(r'"file:/run/secrets/(\w+)"', path.read_text()))


@pytest.mark.parametrize("name", ["container.toml", "kubernetes/settings.toml"])
def test_a_configuration_for_containers_is_accepted_and_gives_nothing_to_worry_about(name: str, tmp_path: Path) -> None:
    """`partyline check` would find no mistake and warn of nothing; it listens for others, and spools onto a volume."""
    settings = settings_of(DEPLOY / name, tmp_path)

    assert [row for row in explain(settings) if row.level == "warning"] == []
    assert settings.server.host == "0.0.0.0"
    assert settings.spool.dir.is_relative_to("/var/lib/partyline")


def test_every_command_in_these_files_exists() -> None:
    """`partyline …` in a manifest, a comment or an entry point is one that the program has."""
    texts = [path.read_text() for path in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", *KUBERNETES.glob("*.yaml"))]
    commands = [words for text in texts for words in commands_in(text)]

    assert ["spool", "drain"] in commands
    assert [words for words in commands if not takes(words)] == []


# --- the image --------------------------------------------------------------------------------------------


def test_the_image_is_made_of_files_that_exist_and_are_let_in() -> None:
    """What is copied is there, .dockerignore lets it through, and that lets nothing else through."""
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()

    assert {line[1:] for line in ignore if line.startswith("!")} == COPIED
    assert [name for name in COPIED if not (ROOT / name).exists()] == []
    assert "*" in ignore


def test_the_image_holds_every_download_against_the_lock() -> None:
    """One command fetches, with hashes; all that is installed comes from what it fetched."""
    runs = re.findall(r"pip (?:--python \S+ )?(download|install|wheel) ([^\n]+)", DOCKERFILE)
    fetching = [words for verb, words in runs if verb == "download"]

    assert len(fetching) == 1
    assert "--require-hashes" in fetching[0]
    assert "--requirement requirements.lock" in fetching[0]
    assert [words for verb, words in runs if verb != "download" and "--no-index" not in words] == []


def test_the_image_runs_the_program_as_somebody_without_rights() -> None:
    """By number, in the last stage; the command exists; its health is asked of a route that exists."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    entry, words = (json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.+\])$", last, re.MULTILINE))

    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == [f"{USER}:{USER}"]
    assert (entry, takes(words)) == (["partyline"], True)
    assert "'/healthz'" in last


async def test_the_health_check_of_the_image_asks_the_receiver(free_http: int) -> None:
    """It succeeds when /healthz answers 200 at the configured port, and fails when nothing listens."""
    [words] = re.findall(r"^ +CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    command = [sys.executable, *json.loads(words)[1:]]

    def healthy(port: int) -> bool:
        environment = {"PARTYLINE_SERVER__PORT": str(port)}
        return subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False).returncode == 0

    assert healthy(free_http)
    assert not healthy(free_port())


@pytest.fixture
def free_http(tmp_path: Path) -> Iterator[int]:
    """A web server of Python's own that has a /healthz."""
    (tmp_path / "healthz").write_text("alive")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with started(command, tmp_path, "http"):
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield port


# --- compose ----------------------------------------------------------------------------------------------


def test_the_version_of_the_image_is_that_of_the_project() -> None:
    """Compose, Kubernetes and the Dockerfile's advice name the version that pyproject.toml has."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    base = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())

    assert COMPOSE["services"]["receiver"]["image"] == f"partyline:{version}"
    assert f"--tag partyline:{version} " in DOCKERFILE
    assert [image["newTag"] for image in base["images"]] == [version]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_of_the_compose_file_may_do_little(name: str) -> None:
    """A read-only root, no capability but the proxy's one, no new privileges; it comes back, and logs are bounded."""
    service = COMPOSE["services"][name]

    assert (service["read_only"], service["cap_drop"], service["restart"]) == (True, ["ALL"], "unless-stopped")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_the_compose_file_refers_to_what_it_declares_and_to_files_that_exist() -> None:
    """Networks, volumes, secrets and dependencies are declared, all of them used; mounted files are in deploy/."""
    services = COMPOSE["services"].values()
    mounts = [volume.split(":")[0] for service in services for volume in service.get("volumes", [])]
    files = {mount.removeprefix("./") for mount in mounts if mount.startswith("./")}

    assert {name for service in services for name in service["networks"]} == set(COMPOSE["networks"])
    assert {name for service in services for name in service.get("secrets", [])} == set(COMPOSE["secrets"])
    assert {mount for mount in mounts if not mount.startswith("./")} == set(COMPOSE["volumes"])
    assert {name for service in services for name in service.get("depends_on", [])} <= set(COMPOSE["services"])
    assert files == {"container.toml", "redis.conf", "Caddyfile"}
    assert [name for name in files if not (DEPLOY / name).is_file()] == []
    assert (ROOT / "deploy" / COMPOSE["services"]["receiver"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / COMPOSE["services"]["receiver"]["build"]["dockerfile"]).is_file()


def test_only_the_proxy_is_for_the_world_and_redis_has_no_way_out() -> None:
    """Ports are published by the proxy, and on this machine alone by the receiver; Redis' network is internal."""
    ports = {name: service.get("ports", []) for name, service in COMPOSE["services"].items()}

    assert ports == {"proxy": ["80:80", "443:443"], "receiver": ["127.0.0.1:8081:8081"], "redis": []}
    assert COMPOSE["services"]["redis"]["networks"] == ["back"]
    assert COMPOSE["networks"]["back"] == {"internal": True}


def test_the_receiver_believes_the_proxys_network(tmp_path: Path) -> None:
    """server.trusted_proxies is the network that compose makes for the two of them."""
    [range_of_front] = COMPOSE["networks"]["front"]["ipam"]["config"]
    settings = settings_of(DEPLOY / "container.toml", tmp_path)

    assert [str(network) for network in settings.server.trusted_proxies] == [range_of_front["subnet"]]
    assert COMPOSE["services"]["proxy"]["networks"] == ["edge", "front"]


def test_the_receiver_gets_each_secret_that_it_reads_and_no_other() -> None:
    """What container.toml reads in /run/secrets is what compose hands over."""
    assert secrets_in(DEPLOY / "container.toml") == set(COMPOSE["services"]["receiver"]["secrets"])


def test_the_receiver_has_as_long_to_stop_as_it_needs() -> None:
    """Docker kills after ten seconds unless it is told otherwise, and Kubernetes after thirty."""
    pod = manifests("StatefulSet")["partyline"]["spec"]["template"]["spec"]
    script = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    tries = len(re.findall(r"for try in ([\d ]+);", script)[0].split())
    draining = 10 + tries * (5 + 2)

    assert int(COMPOSE["services"]["receiver"]["stop_grace_period"].removesuffix("s")) > STOPPING_SECONDS
    assert re.findall(r"(?:sleep|timeout) (\d+)", script) == ["10", "5", "2"]
    assert pod["terminationGracePeriodSeconds"] > draining + STOPPING_SECONDS


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of deploy/ in which secrets.sh was run."""
    for name in ("secrets.sh", "users.acl", "redis.conf", "container.toml", "Caddyfile"):
        shutil.copy(DEPLOY / name, tmp_path)
    _make_secrets(tmp_path)
    return tmp_path


def _make_secrets(folder: Path) -> str:
    command = ["sh", str(folder / "secrets.sh"), "hooks.example.org"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def test_secrets_are_made_once_for_containers_alone(made: Path) -> None:
    """All that compose takes but the provider's key, which it asks for; random, in a closed folder, and never anew."""
    folder = made / "secrets"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    said = _make_secrets(made)

    needed = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert needed - set(before) == {"telnyx_public_key"}
    assert "deploy/secrets/telnyx_public_key" in said
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert len(before["id_key"].strip()) == len(before["api_token"].strip()) == 64
    assert before["id_key"] != before["api_token"]
    assert "REPLACE-THIS" not in "".join(before.values())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert (made / ".env").read_text() == "PARTYLINE_HOST=hooks.example.org\n"


def test_what_is_mounted_can_be_read_by_containers_whatever_umask_made_it(made: Path) -> None:
    """Their users own nothing of it, and root in them may not pass over rights."""
    mounted = [made / name for name in ("container.toml", "redis.conf", "Caddyfile")]
    for path in mounted:
        path.chmod(0o600)
    _make_secrets(made)

    assert {path.stat().st_mode & 0o777 for path in mounted} == {0o644}


def test_what_is_made_for_one_machine_is_never_committed() -> None:
    """Git ignores the secrets, and what names the host."""
    ignored = (ROOT / ".gitignore").read_text().split()

    assert {"deploy/secrets/", "deploy/.env", "deploy/kubernetes/secrets/"} <= set(ignored)


async def test_the_redis_of_the_compose_file_keeps_what_a_200_promises(made: Path, folder: Path) -> None:
    """Its command, run here with these paths: the made user gets in with the made password, and it is durable."""
    port = free_port()
    script = COMPOSE["services"]["redis"]["command"][-1].replace("exec redis-server", f"exec {find_server()}")
    places = {"/etc/redis/redis.conf": f"{made}/redis.conf", "/tmp/redis.conf": f"{folder}/redis.conf"}
    places |= {"/run/secrets/users.acl": f"{made}/secrets/users.acl", "dir /data": f"dir {folder}"}
    for theirs, ours in places.items():
        assert theirs in script
        script = script.replace(theirs, ours)
    text = (made / "redis.conf").read_text()
    (made / "redis.conf").write_text(text.replace("port 6379", f"port {port}"))
    url = (made / "secrets/redis_url").read_text().strip()

    with started(["sh", "-c", script], folder, "redis") as process:
        await process.says("Ready to accept connections")
        client = connect(url.replace("@redis:6379", f"@127.0.0.1:{port}"), 5.0)
        await check_durability(client, "always")
        bound = await client.config_get("bind")
        await client.aclose()

    assert list(bound.values()) == ["* -::*"]


@pytest.fixture
def caddyfile(tmp_path: Path) -> Path:
    """What the command of the compose file makes of the Caddyfile."""
    script = COMPOSE["services"]["proxy"]["command"][-1].replace("$$", "$").partition("exec ")[0]
    ours = {"/etc/caddy/": f"{DEPLOY}/", "/tmp/": f"{tmp_path}/"}
    assert all(theirs in script for theirs in ours)
    # In one go: where this checkout is, there may be a /tmp/ as well.
    script = re.sub("|".join(ours), lambda found: ours[found[0]], script)
    subprocess.run(["sh", "-c", script], env={"PARTYLINE_HOST": "hooks.example.org"}, timeout=10, check=True)
    return tmp_path / "Caddyfile"


def test_the_proxy_of_the_compose_file_is_the_caddyfile_with_our_names(caddyfile: Path) -> None:
    """The host that providers post to and the receiver stand where it says `yours`; the rest is as it was tested."""
    text = caddyfile.read_text()

    assert text.count("\nhooks.example.org {\n") == text.count("reverse_proxy receiver:8080 {\n") == 1
    assert text == CADDY.config.read_text().replace(HOST, "hooks.example.org").replace(
        "127.0.0.1:8080", "receiver:8080"
    )


def test_caddy_takes_what_the_compose_file_makes(caddyfile: Path) -> None:
    """`caddy validate` finds nothing wrong with it, where caddy is."""
    command = [program(CADDY.name), "validate", "--config", str(caddyfile), "--adapter", "caddyfile"]

    said = subprocess.run(command, env={"HOME": str(caddyfile.parent)}, capture_output=True, timeout=60, check=False)

    assert said.returncode == 0, said.stderr


# --- Kubernetes -------------------------------------------------------------------------------------------


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of one file of the base."""
    return [each for each in yaml.safe_load_all((KUBERNETES / name).read_text()) if each]


BASE = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
OBJECTS = [each for name in BASE["resources"] for each in documents(name)]


def manifests(kind: str) -> dict[str, dict[str, Any]]:
    """The objects of one kind, by name."""
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == kind}


def test_the_base_has_every_manifest_and_they_are_of_known_kinds() -> None:
    """All files are part of it but the example of a secret; each object has the API that its kind belongs to."""
    apis = {
        "Namespace": "v1",
        "Service": "v1",
        "StatefulSet": "apps/v1",
        "Ingress": "networking.k8s.io/v1",
        "NetworkPolicy": "networking.k8s.io/v1",
        "PodDisruptionBudget": "policy/v1",
    }

    files = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert files - set(BASE["resources"]) == {"kustomization.yaml", "secret.example.yaml"}
    assert {each["kind"]: each["apiVersion"] for each in OBJECTS} == apis


def test_a_pod_may_do_little() -> None:
    """What the profile `restricted` of its namespace asks for, and a read-only root besides."""
    pod = manifests("StatefulSet")["partyline"]["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert manifests("Namespace")["partyline"]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (USER, USER)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]


def test_a_pod_is_not_restarted_for_what_a_restart_does_not_mend() -> None:
    """It takes part while /readyz says so, and is restarted for want of /healthz alone; both are routes at its port."""
    [container] = manifests("StatefulSet")["partyline"]["spec"]["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}

    assert probes == {
        "startup": {"path": "/healthz", "port": "webhooks"},
        "readiness": {"path": "/readyz", "port": "webhooks"},
        "liveness": {"path": "/healthz", "port": "webhooks"},
    }


def test_the_spool_of_a_pod_is_a_volume_of_its_own_that_stays(tmp_path: Path) -> None:
    """It is mounted above spool.dir, has room for twice spool.max, and outlives the pod."""
    spec = manifests("StatefulSet")["partyline"]["spec"]
    [claim] = spec["volumeClaimTemplates"]
    [mount] = [
        each
        for each in spec["template"]["spec"]["containers"][0]["volumeMounts"]
        if each["name"] == claim["metadata"]["name"]
    ]
    settings = settings_of(KUBERNETES / "settings.toml", tmp_path)
    asked = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * 2**30

    assert settings.spool.dir.is_relative_to(mount["mountPath"])
    assert asked >= 2 * settings.spool.max_bytes
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Retain", "whenDeleted": "Retain"}


def test_what_a_pod_mounts_is_declared_and_holds_what_it_reads() -> None:
    """Volumes are declared and used; the example of the Secret has a key for each secret that the settings read."""
    spec = manifests("StatefulSet")["partyline"]["spec"]
    pod = spec["template"]["spec"]
    declared = {each["name"] for each in pod["volumes"]} | {spec["volumeClaimTemplates"][0]["metadata"]["name"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    [example] = documents("secret.example.yaml")

    assert {each["name"] for each in pod["containers"][0]["volumeMounts"]} == declared
    assert volumes["secrets"]["secret"]["secretName"] == example["metadata"]["name"]
    assert volumes["settings"]["configMap"]["name"] == BASE["configMapGenerator"][0]["name"]
    assert set(example["stringData"]) == secrets_in(KUBERNETES / "settings.toml")
    [file] = BASE["configMapGenerator"][0]["files"]
    assert file == "partyline.toml=settings.toml"
    assert (KUBERNETES / "settings.toml").is_file()


def test_ports_have_the_same_names_wherever_they_are_named(tmp_path: Path) -> None:
    """The settings' ports are the container's; Services, Ingress, probes and the policy name those."""
    settings = settings_of(KUBERNETES / "settings.toml", tmp_path)
    stateful = manifests("StatefulSet")["partyline"]["spec"]
    [container] = stateful["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    [path] = manifests("Ingress")["partyline"]["spec"]["rules"][0]["http"]["paths"]
    services = manifests("Service")
    served = {name: each["spec"]["ports"][0] for name, each in services.items()}
    policy = manifests("NetworkPolicy")["partyline"]["spec"]

    assert ports == {"webhooks": settings.server.port, "admin": settings.server.admin_port}
    assert {each["targetPort"]: each["port"] for each in served.values()} == ports
    assert stateful["serviceName"] in services
    assert path["path"] == "/webhooks/"
    assert served[path["backend"]["service"]["name"]]["name"] == path["backend"]["service"]["port"]["name"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["webhooks", "admin"]
    assert stateful["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(settings.server.admin_port)


def test_nobody_but_redis_and_names_is_reached_from_a_pod() -> None:
    """The policy is for both directions; what goes out goes to Redis' port or to DNS."""
    policy = manifests("NetworkPolicy")["partyline"]["spec"]

    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {6379, 53}


def test_a_node_is_drained_one_pod_at_a_time() -> None:
    """There are two at least, and one of them may be away."""
    assert manifests("PodDisruptionBudget")["partyline"]["spec"]["maxUnavailable"] == 1
    assert manifests("StatefulSet")["partyline"]["spec"]["replicas"] >= 2


def test_kustomize_makes_the_base() -> None:
    """With the program itself, where it is: every object in one namespace, selectors and pods with the same label."""
    built = _kustomized()
    pods = {"app.kubernetes.io/name": "partyline"}
    [stateful] = [each for each in built if each["kind"] == "StatefulSet"]
    selectors = [each["spec"]["selector"] for each in built if each["kind"] == "Service"]

    assert {each["metadata"].get("namespace", "partyline") for each in built} == {"partyline"}
    assert stateful["spec"]["selector"]["matchLabels"] == pods == stateful["spec"]["template"]["metadata"]["labels"]
    assert selectors == [pods] * 3


def _kustomized() -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on PATH")
    command = ["kubectl", "kustomize", str(KUBERNETES)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return list(yaml.safe_load_all(said))


# --- as others read them ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with validators that hold the schemas of Kubernetes and of compose files."""
    if not is_required():
        pytest.skip("set NPM_VALIDATORS=1 to have pip fetch validators of manifests and compose files (make test-deep)")
    folder: Path = tmp_path_factory.mktemp("validators")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=100)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *VALIDATORS], check=True, timeout=300)
    return python


@pytest.mark.timeout(500)
@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_schemas_take_the_manifests(validators: Path, version: str, tmp_path: Path) -> None:
    """Strictly, so without a field that Kubernetes does not know: of the oldest version we name, and a new one."""
    everything = [*_kustomized(), *documents("secret.example.yaml")]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(everything))
    command = [str(validators.with_name("kubernetes-validate")), "--strict", "-k", version, str(tmp_path / "all.yaml")]

    said = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(" passed ") == len(everything) > len(OBJECTS)


@pytest.mark.timeout(500)
def test_a_reader_of_compose_files_takes_ours(validators: Path) -> None:
    """One that is made from the specification, and checks that what is referred to is declared."""
    # Merge keys are YAML's, and resolved here; the variable is compose's own.
    text = json.dumps(COMPOSE).replace("${PARTYLINE_HOST:?run deploy/secrets.sh first}", "hooks.example.org")
    script = "import sys; from compose_spec import PyCompose; PyCompose.from_json(sys.stdin.read()).validate()"

    subprocess.run([validators, "-c", script], input=text, text=True, timeout=60, check=True)
