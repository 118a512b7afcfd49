"""What a node is run by: the systemd unit, the image and the cluster's manifest.

Each is read by the tool that will read it, where that is installed, and by the program it runs.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flc_udp import __version__
from flc_udp.cli.run.run import add_run, overrides
from flc_udp.config import SETTINGS, Settings
from flc_udp.daemon.settings import ENVIRONMENT_PREFIX, load

SCRIPTS = Path(__file__).parent.parent / "scripts"
UNIT = SCRIPTS / "flc-udp.service"
CONTAINERFILE = SCRIPTS / "Containerfile"
MANIFEST = SCRIPTS / "statefulset.yaml"

EXPOSURE_MAX = 25
"""Of 100, as `systemd-analyze security` counts."""

PAGES = {"/metrics", "/livez", "/readyz"}


def tool(name: str) -> str:
    """Where a validator is, beside this Python first; the test is skipped where it is not."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def settings_of(words: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """What `flc run` makes of these; all that looks like a setting has to be one."""
    strange = {
        name
        for name in environ
        if name.startswith(ENVIRONMENT_PREFIX)
        and name.removeprefix(ENVIRONMENT_PREFIX).lower() not in SETTINGS
    }
    assert strange == set()
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_run(parser)
    assert words[0] == "run"
    return load(None, environ, overrides(parser.parse_args(words[1:])))


# --- systemd ----------------------------------------------------------------------------------


def directives(text: str) -> dict[str, list[str]]:
    """The assignments of a unit by their names, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line[:1].isalpha():
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    "words",
    [("verify", "--man=no"), ("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}")],
    ids=["verify", "security"],
)
def test_systemd_accepts_the_unit(tmp_path: Path, words: tuple[str, ...]) -> None:
    """It says nothing against it, and finds it locked up well."""
    analyze = tool("systemd-analyze")
    unit = tmp_path / UNIT.name
    # It looks whether the program is there.
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/flc", sys.executable))

    ended = subprocess.run(
        [analyze, *words, "--no-pager", str(unit)], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


def test_the_unit_starts_a_node_with_its_key() -> None:
    """The command line is one, and its key is the credential the unit loads."""
    unit = directives(UNIT.read_text())
    (start,), (credential,) = unit["ExecStart"], unit["LoadCredential"]

    settings = settings_of(shlex.split(start)[1:], {})

    assert settings.key_file == f"%d/{credential.partition(':')[0]}"
    assert unit["Type"] == ["notify"]


def test_a_node_that_left_stays_gone() -> None:
    """Everything else starts it again: a leave alone ends with 0, a wrong command line with 2."""
    unit = directives(UNIT.read_text())

    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == ["0 2"]


# --- Containers -------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Those of the Containerfile: their names, and the rest of the line made whole."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.split("\n"))]


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of such files."""
    ended = subprocess.run(
        [tool("hadolint"), str(CONTAINERFILE)], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_image_runs_a_node_that_is_nobody() -> None:
    """As a number that is not root's, from its volume, with settings that are some."""
    last = dict(instructions())
    environ = dict(word.split("=", 1) for word in shlex.split(last["ENV"]))

    settings = settings_of(["run"], environ)

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last["USER"])
    assert settings.data == last["VOLUME"]
    assert settings.bind.endswith(f":{last['EXPOSE'].removesuffix('/udp')}")
    assert (last["ENTRYPOINT"], last["CMD"]) == ('["flc"]', '["run"]')


def test_the_image_is_made_of_what_is_there() -> None:
    """What is copied from the checkout exists, and the files installed are those locked."""
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    sources = [word for words in copied for word in words if not words[0].startswith("--from")]

    assert sources
    assert [word for word in sources if not (SCRIPTS.parent / word).exists()] == []
    runs = " && ".join(rest for name, rest in instructions() if name == "RUN")
    installs = [words for words in runs.split(" && ") if "pip install" in words]
    assert any("locked/run.txt" in words for words in installs)
    assert [w for w in installs if "--require-hashes" not in w and "--no-deps" not in w] == []


# --- Kubernetes -------------------------------------------------------------------------------


@pytest.fixture
def manifest() -> dict[str, Any]:
    """The documents of the manifest, by their kind."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}


def test_kubernetes_accepts_the_manifest(manifest: dict[str, Any]) -> None:
    """Every field is one of its schema's, with a value of its kind."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    for document in manifest.values():
        validate.validate(document, validate.latest_version(), strict=True)

    assert set(manifest) == {"Service", "StatefulSet"}


def test_pods_run_nodes_that_find_each_other(manifest: dict[str, Any]) -> None:
    """Seeds are the headless service, which names nodes that are not ready too."""
    service, pods = manifest["Service"], manifest["StatefulSet"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    environ = {one["name"]: one.get("value", one["name"]) for one in container["env"]}

    settings = settings_of(container["args"], environ)

    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert pods["podManagementPolicy"] == "Parallel"
    assert settings.join == (f"{service['metadata']['name']}:7352",)
    assert settings.advertise == "$(POD_IP):7352"
    assert pods["serviceName"] == service["metadata"]["name"]
    labels = pods["template"]["metadata"]["labels"]
    assert labels == service["spec"]["selector"] == pods["selector"]["matchLabels"]
    assert container["image"].endswith(f":{__version__}")


def test_pods_are_probed_where_nodes_answer(manifest: dict[str, Any]) -> None:
    """Alive is no more than turning, and ready is well; both at the port of --metrics."""
    pods = manifest["StatefulSet"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    environ = {one["name"]: one.get("value", one["name"]) for one in container["env"]}
    (port,) = [port for port in container["ports"] if port["name"] == "metrics"]
    probes = {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }

    assert {get["port"] for get in probes.values()} == {port["name"]}
    assert {get["path"] for get in probes.values()} <= PAGES
    assert probes["livenessProbe"]["path"] == "/livez"
    assert probes["readinessProbe"]["path"] == "/readyz"
    settings = settings_of(container["args"], environ)
    assert settings.metrics == f"0.0.0.0:{port['containerPort']}"


def test_pods_may_write_their_volume_and_nothing_else(manifest: dict[str, Any]) -> None:
    """Nobody's user, no capability, a read-only root, a key from a secret, a log that stays."""
    pods = manifest["StatefulSet"]["spec"]
    spec = pods["template"]["spec"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    (claim,) = pods["volumeClaimTemplates"]
    (key,) = spec["volumes"]
    image_user = dict(instructions())["USER"]
    security = spec["securityContext"]

    assert security["runAsNonRoot"] is True
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == image_user
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert mounts[claim["metadata"]["name"]]["mountPath"] == dict(instructions())["VOLUME"]
    assert "secret" in key
    assert mounts[key["name"]]["readOnly"] is True
    assert container["args"][2].startswith(mounts[key["name"]]["mountPath"])
