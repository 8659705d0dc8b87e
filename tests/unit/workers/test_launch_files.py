"""Launch files, each read by the engine that it is for, or by that engine's schema."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from jsonschema import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).resolve().parents[3]
LAUNCH = REPOSITORY / "workers" / "launch"
TOOLS = Path(sys.executable).parent
RAY_UP = ("aws", "on_premise")
KUBERNETES = "1.34.0"

# Names of what KubeRay 1.5.1 knows (ray.io/v1), beyond pod templates, which Kubernetes' own schema covers.
HEAD_GROUP = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKER_GROUP = {
    *("groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams"),
    *("replicas", "resources", "scaleStrategy", "suspend", "template"),
}
AUTOSCALER = {
    *("env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext"),
    *("upscalingMode", "version", "volumeMounts"),
}
CLUSTER = {
    *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions"),
    *("headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs"),
}
JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint"),
    *("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata"),
    *("rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig"),
    *("submitterPodTemplate", "suspend", "ttlSecondsAfterFinished"),
}
# Long options of sbatch (its manual page), of which the script may use some.
SBATCH = {
    *("account", "cpus-per-gpu", "cpus-per-task", "error", "exclusive", "gpus", "gpus-per-node", "gres"),
    *("job-name", "mail-type", "mem", "mem-per-gpu", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output"),
    *("partition", "qos", "requeue", "signal", "time"),
}


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((LAUNCH / path).read_text("utf-8")))


def ray_clusters() -> list[dict[str, Any]]:
    """The cluster of each manifest, as the operator makes one of it."""
    (cluster,), (job,) = documents("kuberay/raycluster.yaml"), documents("kuberay/rayjob.yaml")
    return [cluster, {"metadata": job["metadata"], "spec": job["spec"]["rayClusterSpec"]}]


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_accepts_its_configuration(name: str) -> None:
    (content,) = documents(f"ray_up/{name}.yaml")
    validate_config(prepare_config(copy.deepcopy(content)))

    assert content["provider"]["type"] == {"aws": "aws", "on_premise": "local"}[name]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in content[commands][-1]
    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config(content | {"idle_timeout": 3}))


def test_gpu_nodes_of_aws_come_and_go_and_its_head_offers_nothing() -> None:
    (content,) = documents("ray_up/aws.yaml")
    config = prepare_config(content)
    head, gpu = (config["available_node_types"][name] for name in ("head", "gpu"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert (gpu["min_workers"], gpu["max_workers"], config["max_workers"]) == (0, 8, 8)


def test_machines_of_ones_own_are_all_used() -> None:
    (content,) = documents("ray_up/on_premise.yaml")
    config = prepare_config(copy.deepcopy(content))
    (worker,) = [kind for name, kind in config["available_node_types"].items() if name == config["head_node_type"]]
    assert worker["max_workers"] == len(content["provider"]["worker_ips"]) == config["max_workers"]


def test_rays_autoscaler_reads_the_clusters_of_kuberay() -> None:
    for cluster in ray_clusters():
        cluster["metadata"]["namespace"] = "default"
        types = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
        assert types["headgroup"]["resources"]["CPU"] == 0
        assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 8)
        assert types["gpu"]["resources"]["GPU"] == 1


def test_kuberays_fields_have_their_names() -> None:
    (job,) = documents("kuberay/rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= JOB
    for cluster in ray_clusters():
        spec = cluster["spec"]
        assert set(spec) <= CLUSTER
        assert set(spec["autoscalerOptions"]) <= AUTOSCALER
        assert spec["authOptions"] == {"mode": "token"}
        assert set(spec["headGroupSpec"]) <= HEAD_GROUP
        for group in spec["workerGroupSpecs"]:
            assert set(group) <= WORKER_GROUP
            assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group)
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert all(isinstance(value, str) for value in spec["headGroupSpec"]["rayStartParams"].values())


def test_kubernetes_accepts_the_pods_and_the_volumes() -> None:
    volumes = {volume["metadata"]["name"] for volume in documents("kuberay/volumes.yaml")}
    for volume in documents("kuberay/volumes.yaml"):
        kubernetes_validate.validate(volume, KUBERNETES, strict=True)
    for cluster in ray_clusters():
        for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
            spec = pod["spec"]
            (container,) = spec["containers"]
            named = {volume["name"]: volume for volume in spec["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == set(named)
            claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in spec["volumes"]]
            assert set(filter(None, claims)) == volumes
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert container["envFrom"] == [{"secretRef": {"name": "glorasearch-environment"}}]
            assert "env" not in container
    broken = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [{"nam": "x"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_the_job_mounts_its_run_file_where_its_command_looks() -> None:
    (job,) = documents("kuberay/rayjob.yaml")
    pods = job["spec"]["rayClusterSpec"]
    for group in (pods["headGroupSpec"], *pods["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "run-file"]
        assert f"{mount['mountPath']}/flowers.toml" in job["spec"]["entrypoint"]


@pytest.mark.parametrize("name", ["glorasearch.sbatch", "ray_node.sh"])
def test_bash_and_shellcheck_find_nothing(name: str) -> None:
    path = LAUNCH / "slurm" / name
    for command in (["bash", "-n"], [str(TOOLS / "shellcheck"), "--severity=style"]):
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_slurms_options_stand_first_and_are_its_own() -> None:
    lines = (LAUNCH / "slurm" / "glorasearch.sbatch").read_text("utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line) for line in lines if line.startswith("#SBATCH")]
    assert all(options)
    names = [found.group(1) for found in options if found]
    assert len(names) == len(set(names))
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "time", "signal"} <= set(names) <= SBATCH
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(not line.startswith("#SBATCH") for line in lines[first:])


def test_hadolint_finds_nothing_in_the_container_file() -> None:
    done = subprocess.run(
        [TOOLS / "hadolint", LAUNCH / "docker" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_container_file_copies_what_is_there_and_runs_as_nobody_special(tmp_path: Path) -> None:
    parser = DockerfileParser(str(tmp_path))
    parser.content = (LAUNCH / "docker" / "Dockerfile").read_text("utf-8")
    ignored = (LAUNCH / "docker" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    instructions = [(step["instruction"], step["value"]) for step in parser.structure]
    copied = [name for kind, value in instructions if kind == "COPY" for name in value.split()[:-1]]

    assert parser.baseimage.startswith("python:3.")
    assert copied
    for name in copied:
        assert (REPOSITORY / name).exists(), name
        assert f"!{name}" in ignored, name
    assert [value for kind, value in instructions if kind == "USER"][-1] == "1000"
    assert not [name for name in parser.envs if re.search("KEY|SECRET|TOKEN|PASSWORD|DATABASE", name)]
    (installed,) = re.findall(r'pip install .*"\.\[(.*)\]"', parser.content)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(installed.split(",")) <= set(project["optional-dependencies"])


def test_compose_reads_its_file_and_nothing_in_it_is_secret() -> None:
    path = LAUNCH / "docker" / "compose.yaml"
    content = path.read_text("utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", content))
    assert needed == {"RAY_AUTH_TOKEN", "POSTGRES_PASSWORD", "MINIO_PASSWORD"}
    readme = (LAUNCH / "docker" / "README.md").read_text("utf-8")
    assert all(name in readme for name in needed)
    compose = compose_spec.PyOptions(apply_merge=True).from_yaml(re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1", content))
    compose.validate()
    assert set(compose.service_names()) == {"head", "worker", "postgres", "minio", "bucket"}
    with pytest.raises(ValueError, match="imgae"):
        compose_spec.PyOptions().from_yaml("services: {head: {imgae: glorasearch}}")
    services = documents("docker/compose.yaml")[0]["services"]
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET", variable):
                assert str(value).startswith("${"), f"{name}: {variable}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    assert (path.parent / services["head"]["build"]["context"] / services["head"]["build"]["dockerfile"]).is_file()
