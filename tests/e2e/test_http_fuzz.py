"""The HTTP interface under requests that nobody has thought of, which Schemathesis makes from Central's own
description of it: no answer is a failure of ours, and each is as it is described."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from harness import World, eventually

CP_IDS = [f"CP{number:03}" for number in range(1, 7)]
TO_REMOVE = "CP006"
"""The one charge point that is removed, if it is one of ours: the others shall stay."""
DRIVER_IDS = [f"D{number}" for number in range(4)]

SETTINGS = """
[checks]
# Litestar's own answer to OPTIONS names the methods of one of our functions, not of all with the same path.
allow_header_conformance.enabled = false
# Whoever sends wrong tokens has to wait, and is told so with 429: test_http_door.py.
ignored_auth.enabled = false

[[operations]]
# A period that ends before it begins is refused, which no schema can say.
include-path = "/v1/revenue"
checks.positive_data_acceptance.enabled = false

[[operations]]
# The number 0.3 is taken for the price or the cost "0.3", as in the messages.
include-path-regex = "/(price|ceilings|limits|drivers|charge-points)$"
checks.negative_data_rejection.enabled = false
"""


def test_every_request_gets_an_answer_as_it_is_described(world: World) -> None:
    central = world.central()
    world.start(
        "fleet",
        *("fleet", "--count", str(len(CP_IDS)), "--central", f"127.0.0.1:{central.port}"),
        *("--kafka", world.kafka, "--time-scale", "60"),
    )
    for cp_id in CP_IDS:
        world.until_status(cp_id, "ACTIVE")
    operator = world.operator(central)
    for number, (cp_id, driver_id) in enumerate(zip(CP_IDS, DRIVER_IDS, strict=False)):
        order = {"driver_id": driver_id, "energy_wh": 10 if number % 2 else None}
        assert operator.post(f"/v1/charge-points/{cp_id}/start", json=order).status_code == 202
    eventually(lambda: world.rows("SELECT 1 FROM sessions WHERE ended_at IS NOT NULL"), "a charge has ended")

    (world.folder / "schemathesis.toml").write_text(SETTINGS)
    (world.folder / "openapi.json").write_text(json.dumps(description(operator)))
    done = schemathesis(world.folder, operator)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout, done.stdout
    assert '"bug"' not in central.log
    assert "Traceback" not in central.log
    assert operator.get("/healthz").status_code == 200
    assert central.process.poll() is None


def schemathesis(folder: Path, operator: httpx.Client) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
            *("run", "openapi.json", "--url", str(operator.base_url)),
            *("--header", f"Authorization: {operator.headers['Authorization']}"),
            # The answer of this one has no end; test_operators.py reads it.
            *("--exclude-path", "/v1/events"),
            *("--max-examples", "20", "--max-time", "20", "--request-timeout", "20"),
            *("--rate-limit", "40/s"),  # less than one address may ask for
            *("--generation-deterministic", "--continue-on-failure", "--warnings", "off", "--no-color"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def description(operator: httpx.Client) -> dict[str, Any]:
    """Central's description of itself; where it takes just any id, some are offered that there are."""
    described: dict[str, Any] = operator.get("/docs/openapi.json").json()
    session_ids = [row["session_id"] for row in operator.get("/v1/sessions").json()["sessions"]]
    there = {"cp_id": CP_IDS, "driver_id": DRIVER_IDS, "session_id": session_ids}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                ids = there.get(parameter["name"])
                if path == "/v1/charge-points/{cp_id}" and method == "delete":
                    ids = [TO_REMOVE]
                if ids is not None:
                    parameter["schema"] = {"anyOf": [{"type": "string", "enum": ids}, parameter["schema"]]}
    return described
