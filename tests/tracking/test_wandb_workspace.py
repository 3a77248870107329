"""What a server of Weights & Biases receives: the workspace, the report's tables, the lineage, synced runs.

The server is our own, on this machine, so that the requests are those of the real client.
"""

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
from wandb_file import OfflineRun, read_file

from facedistill.errors import ConfigError, FacedistillError, RunError
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from facedistill.tracking import wandb_workspace
from facedistill.tracking.wandb_run import WandbRun, artifact_name
from facedistill.tracking.wandb_workspace import Project, Published, table_of_cells, tables_of
from made_records import record_of

Planner = Callable[..., Run]
Answer = Callable[[dict[str, Any]], Any]
WORDS = ("logger=wandb", "rate=8", "init=full", "target=soft")


class Server:
    """Answers the requests of these tests as W&B does, and remembers them."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.uploads: dict[str, bytes] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, dict[int, dict[str, Any]]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.artifacts: set[str] = set()
        self.used: list[tuple[str, str]] = []
        self.refuses: dict[str, str] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/graphql":
                    self.answer(server.graphql(json.loads(body)))
                else:
                    self.answer(server.stream(self.path, body))

            def do_PUT(self) -> None:
                server.uploads[self.path] = self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.answer({})

            def answer(self, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that went away is no error."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def requests(self, operation: str) -> list[dict[str, Any]]:
        """The variables of every request of one kind, in the order in which they came."""
        return [variables for name, variables in self.received if name == operation]

    def history(self, run: str) -> list[dict[str, Any]]:
        """The lines that a run's history has."""
        lines = self.lines.get(run, {})
        return [lines[number] for number in sorted(lines)]

    def graphql(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        assert found, request
        name, variables = found[1], request.get("variables") or {}
        self.received.append((name, variables))
        if name in self.refuses:
            return {"data": None, "errors": [{"message": self.refuses[name]}]}
        answer: Answer | None = getattr(self, f"_{name}", None)
        assert answer, f"a request that is new here: {name}"
        return {"data": answer(variables)}

    def stream(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            run = path.split("/")[-2]
            for name, chunk in json.loads(body).get("files", {}).items():
                if name == "wandb-history.jsonl":
                    for number, line in enumerate(chunk["content"], chunk["offset"]):
                        self.lines.setdefault(run, {})[number] = json.loads(line)
                elif name == "wandb-summary.json":
                    self.runs[run]["summary"] = json.loads(chunk["content"][-1])
        return {"exitcode": None, "limits": {}}

    def _Viewer(self, _: Any) -> Any:
        teams = {"edges": []}
        return {"viewer": {"id": "V", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": teams}}

    _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, _: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, _: Any) -> Any:
        return {"entity": None}

    def _RunResumeStatus(self, sent: dict[str, Any]) -> Any:
        run, history = self.runs.get(sent["name"]), self.history(sent["name"])
        bucket = run and {
            "id": f"ID-{sent['name']}",
            "name": sent["name"],
            "displayName": run.get("displayName", ""),
            "summaryMetrics": json.dumps(run.get("summary", {})),
            "historyLineCount": len(history),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in history[-1:]]),
            "eventsTail": "[]",
            "config": run.get("config", "{}"),
            "tags": run.get("tags", []),
            "notes": "",
            "wandbConfig": json.dumps({"t": {}}),
        }
        return {"model": {"id": "P", "name": "p", "entity": {"id": "E", "name": "me"}, "bucket": bucket}}

    def _UpsertBucket(self, sent: dict[str, Any]) -> Any:
        run = self.runs.setdefault(sent["name"], {})
        run |= {key: value for key, value in sent.items() if value is not None}
        project = {"id": "P", "name": sent["project"], "entity": {"id": "E", "name": "me"}}
        bucket = {
            "id": f"ID-{sent['name']}",
            "name": sent["name"],
            "displayName": run.get("displayName", ""),
            "description": "",
            "config": run.get("config", "{}"),
            "sweepName": None,
            "project": project,
            "historyLineCount": len(self.history(sent["name"])),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _RunStoppedStatus(self, _: Any) -> Any:
        return {"project": {"run": {"stopped": False}}}

    def _CreateRunFiles(self, sent: dict[str, Any]) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.url}/run/{sent['run']}/{name}"} for name in sent["files"]]
        return {"createRunFiles": {"runID": f"ID-{sent['run']}", "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, _: Any) -> Any:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, sent: dict[str, Any]) -> Any:
        name = sent["input"]["artifactCollectionName"]
        self.artifacts.add(name)
        sequence = {"id": f"S-{name}", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": f"A-{name}", "state": "PENDING", "artifactSequence": sequence}}}

    def _CreateArtifactManifest(self, sent: dict[str, Any]) -> Any:
        file = {"id": "F", "uploadUrl": f"{self.url}/manifest/{sent['artifactID']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file}}}

    def _CreateArtifactFiles(self, sent: dict[str, Any]) -> Any:
        def node(file: dict[str, Any]) -> Any:
            return {
                "storagePath": file["name"],
                "uploadUrl": f"{self.url}/artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }

        edges = [{"node": node(file)} for file in sent["input"]["artifactFiles"]]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, sent: dict[str, Any]) -> Any:
        return {"commitArtifact": {"artifact": {"id": sent["artifactID"], "digest": "d"}}}

    def _UseArtifact(self, sent: dict[str, Any]) -> Any:
        self.used.append((sent["runName"], sent["artifactID"].removeprefix("A-")))
        artifact = {"id": sent["artifactID"], "digest": "d", "description": None, "state": "COMMITTED"}
        return {"useArtifact": {"artifact": {**artifact, "createdAt": "2025-01-01T00:00:00Z", "metadata": None}}}

    def _ArtifactMembershipByName(self, sent: dict[str, Any]) -> Any:
        name = sent["name"].removesuffix(":latest")
        if name not in self.artifacts:
            return {"project": {"artifactCollectionMembership": None}}
        artifact = _artifact(name)
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": "M",
            "createdAt": "2025-01-01T00:00:00Z",
            "versionIndex": 0,
            "aliases": [],
            "artifactCollection": artifact["artifactSequence"],
            "artifact": artifact,
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _RunInputArtifacts(self, sent: dict[str, Any]) -> Any:
        names = [name for run, name in self.used if run == sent["run"]]
        edges = [{"node": _artifact(name)} for name in names]
        return {"project": {"run": {"artifacts": {"totalCount": len(names), "pageInfo": _PAGE, "edges": edges}}}}

    def _Runs(self, sent: dict[str, Any]) -> Any:
        wanted = json.loads(sent["filters"])["name"]["$in"]
        nodes = [_run(name) for name in self.runs if name in wanted]
        runs = {"edges": [{"node": node, "cursor": "c"} for node in nodes], "pageInfo": _PAGE}
        return {"project": {"internalId": "1", "runCount": len(nodes), "readOnly": False, "runs": runs}}

    def _View(self, sent: dict[str, Any]) -> Any:
        found = [view for view in self.views.values() if view["name"] == sent["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}

    def _UpsertView2(self, sent: dict[str, Any]) -> Any:
        key = sent.get("id") or f"view {len(self.views)}"
        self.views[key] = {"id": key, **{name: sent[name] for name in ("name", "displayName", "spec")}}
        return {"upsertView": {"view": {"id": key, "name": sent["name"]}, "inserted": "id" not in sent}}


_PAGE = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}


def _artifact(name: str) -> dict[str, Any]:
    project = {"id": "P", "internalId": "1", "name": "p", "entity": {"name": "me"}}
    return {
        "__typename": "Artifact",
        "id": f"A-{name}",
        "artifactSequence": {"__typename": "ArtifactSequence", "name": name, "project": project},
        "artifactType": {"name": "model"},
        "versionIndex": 0,
        "ttlDurationSeconds": -1,
        "ttlIsInherited": False,
        "tags": [],
        "aliases": [],
        "state": "COMMITTED",
        "size": 1,
        "fileCount": 1,
        "digest": "d",
        "commitHash": "c",
        "createdAt": "2025-01-01T00:00:00Z",
        **dict.fromkeys(("description", "metadata", "historyStep", "updatedAt")),
    }


def _run(name: str) -> dict[str, Any]:
    times = dict.fromkeys(("createdAt", "heartbeatAt"), "2025-01-01T00:00:00")
    user = {"name": "me", "username": "me"}
    some = {"id": f"ID-{name}", "name": name, "displayName": name, "state": "finished", "tags": [], "user": user}
    return {**some, **times, "projectId": 1, "group": "", "jobType": "", "sweepName": None, "readOnly": False}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that the client of this process talks to."""
    wandb.teardown()  # it keeps the address that it saw first
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield server
    wandb.finish()
    wandb.teardown()
    server.close()


def publish(*words: Any) -> Published:
    """As one command does: W&B's service ends with it."""
    try:
        return wandb_workspace.publish(*words)
    finally:
        wandb.teardown()


def finished(run: Run, **metrics: float) -> Record:
    return record_of(run, metrics=metrics, teacher_score=75.0)


def spec(server: Server) -> dict[str, Any]:
    """The workspace that was saved last."""
    return json.loads(server.requests("UpsertView2")[-1]["spec"])["section"]  # type: ignore[no-any-return]


def panels(server: Server) -> dict[str, dict[str, dict[str, Any]]]:
    """The configuration of every panel, by section and kind."""
    found = spec(server)["panelBankConfig"]["sections"]
    return {section["name"]: {panel["viewType"]: panel["config"] for panel in section["panels"]} for section in found}


@pytest.mark.parametrize("text", ["", "true", "facedistill", "/facedistill", "me/", "me/a/b", "me/a:b", "me/a\nb"])
def test_text_that_does_not_name_a_project_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wandb=ENTITY/PROJECT"):
        publish(text, [], {})


def test_a_project_may_have_spaces_and_letters_of_any_alphabet() -> None:
    assert Project.parse("équipe/my faces") == Project("équipe", "my faces")


def test_without_a_key_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"`wandb login`.*WANDB_API_KEY"):
        publish("me/p", [], {})


def test_without_a_network_it_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 1)
    with pytest.raises(RunError, match=r"can't be reached.*network.*wandb login --relogin"):
        publish("me/p", [], {})


@pytest.mark.parametrize("operation", ["UpsertBucket", "UpsertView2", "Runs"])
def test_a_refusal_of_the_server_is_reported(server: Server, operation: str) -> None:
    server.refuses[operation] = "permission denied"
    with pytest.raises(RunError, match=r"wandb=me/p: .*permission denied.*The same command tries again"):
        publish("me/p", [], {})


def test_the_workspace_has_the_panels_of_every_task(server: Server, planned: Planner) -> None:
    records = [
        finished(planned(*WORDS), top1=60.0, pairs=80.0),
        finished(planned("task=align", "rate=8", "init=distill", "target=hidden"), nrmse=5.0),
        finished(planned("task=hint", "rate=8"), hint_error=1.0),
    ]
    published = publish("me/p", records, {"Table 1": pd.DataFrame({"a": [1]})})
    (request,) = server.requests("UpsertView2")
    assert "id" not in request
    assert (request["entityName"], request["projectName"], request["type"]) == ("me", "p", "project-view")
    assert (request["name"], request["displayName"]) == ("nw-facedistill-v", "facedistill")
    assert published.url == f"{server.url}/me/p?nw=facedistill"

    found = panels(server)
    assert list(found) == ["facedistill: classify", "facedistill: align", "facedistill: cells and tables"]
    for task, metric in (("classify", "top1"), ("align", "nrmse")):
        own = found[f"facedistill: {task}"]
        columns = [column["accessor"] for column in own["Parallel Coordinates Plot"]["columns"]]
        axes = ["config:rate.value", "config:init.value", "config:target.value"]
        assert columns == [*axes, f"summary:{task}/{metric}"]
        assert own["Scatter Plot"]["xAxis"] == "config:rate.value"
        assert own["Scatter Plot"]["yAxis"] == f"summary:{task}/{metric}"
        curves = own["Run History Line Plot"]
        assert (curves["xAxis"], curves["metrics"]) == ("epoch", [f"{task}/{metric}"])
        assert (curves["groupBy"], curves["groupAgg"], curves["aggregate"]) == ("cell.value", "mean", True)
        assert own["Media Browser"]["mediaKeys"] == [f"{task}/samples"]
        lines = own["Vega2"]
        assert lines["panelDefId"] == "wandb/lineseries/v0"
        assert f'"value": "rates-{task}"' in json.dumps(lines["userQuery"])
    assert found["facedistill: align"]["Media Browser"]["chartTitle"] == "align: landmarks"

    tables = spec(server)["panelBankConfig"]["sections"][-1]["panels"]
    shown = [panel["config"]["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] for panel in tables]
    assert shown == ["cells", "table-Table-1"]
    (runs,) = spec(server)["runSets"]
    assert {"config:rate.value", "summary:classify/top1", "summary:align/nrmse"} <= set(runs["runFeed"]["columnOrder"])


def test_several_data_sets_are_an_axis(server: Server, planned: Planner) -> None:
    records = [finished(planned("rate=8", f"data={name}"), top1=60.0) for name in ("synthetic", "synthetic_large")]
    publish("me/p", records, {})
    columns = panels(server)["facedistill: classify"]["Parallel Coordinates Plot"]["columns"]
    assert [column["displayName"] for column in columns] == ["rate", "init", "target", "data", "top1"]


def test_the_workspace_is_updated_and_keeps_what_people_added(server: Server, planned: Planner) -> None:
    records = [finished(planned(*WORDS), top1=60.0)]
    publish("me/p", records, {})
    (view,) = server.views.values()
    saved = json.loads(view["spec"])
    bank = saved["section"]["panelBankConfig"]
    bank["sections"].append({**bank["sections"][0], "name": "mine <b>", "panels": []})
    saved["section"]["runSets"][0]["search"]["query"] = "rate-8"
    view |= {"spec": json.dumps(saved), "displayName": "our faces"}
    server.views["another"] = {**view, "id": "another", "name": "nw-abcdefghijk-v"}

    publish("me/p", [*records, finished(planned("task=verify", "rate=8", "init=distill", "target=none"), top1=1.0)], {})
    first, second = server.requests("UpsertView2")
    assert "id" not in first
    assert (second["id"], second["name"], second["displayName"]) == (view["id"], view["name"], "our faces")
    assert set(server.views) == {view["id"], "another"}
    ours = [f"facedistill: {name}" for name in ("classify", "verify", "cells and tables")]
    assert [section["name"] for section in spec(server)["panelBankConfig"]["sections"]] == [*ours, "mine <b>"]
    assert spec(server)["runSets"][0]["search"]["query"] == "rate-8"


@pytest.mark.parametrize("change", [{"version": 7}, {"section": {}}])
def test_a_workspace_of_an_unknown_format_is_not_touched(server: Server, change: dict[str, Any]) -> None:
    publish("me/p", [], {})
    (view,) = server.views.values()
    view["spec"] = json.dumps({**json.loads(view["spec"]), **change})
    with pytest.raises(RunError, match=r"workspace facedistill of me/p.*Update wandb-workspaces"):
        publish("me/p", [], {})
    assert len(server.requests("UpsertView2")) == 1


def test_the_tables_are_of_one_run_and_change_only_where_they_differ(server: Server, planned: Planner) -> None:
    record = finished(planned(*WORDS), top1=60.0)
    text = '<img src=x onerror="1">\n"ü"'
    tables = {"Table 1: <ours>": pd.DataFrame({"who": [text, None], "top-1 %": [1.5, float("nan")]})}
    publish("me/p", [record], tables)
    publish("me/p", [replace(record, metrics={"top1": 61.0})], tables)
    assert {(sent["name"], sent["project"], sent["entity"]) for sent in server.requests("UpsertBucket")} == {
        ("report", "p", "me")
    }
    (uploaded,) = [
        json.loads(content)
        for path, content in server.uploads.items()
        if path.startswith("/artifact/A-run-report-table-Table-1-ours/") and path.endswith("table.json")
    ]
    assert (uploaded["columns"], uploaded["data"]) == (
        ["who", "top-1 %"],
        [[text.replace("\n", "\\n"), 1.5], [None, None]],
    )
    digests: dict[str, list[str]] = {}
    for sent in server.requests("CreateArtifact"):
        assert sent["input"]["enableDigestDeduplication"]  # the same content is the same version
        digests.setdefault(sent["input"]["artifactCollectionName"], []).append(sent["input"]["digest"])
    same = {name: len(set(found)) == 1 for name, found in digests.items() if len(found) == 2}
    assert same == {
        "run-report-cells": False,
        "run-report-rates-classify": False,
        "run-report-table-Table-1-ours": True,
    }


def test_cells_are_means_over_seeds_of_runs_that_are_alike(planned: Planner) -> None:
    records = [finished(planned(*WORDS, f"seed={seed}"), top1=60.0 + 3 * seed, pairs=90.0) for seed in (0, 1)]
    records += [
        finished(planned(*WORDS, "schedule.epochs=2"), top1=10.0),
        finished(planned(*WORDS, "teacher.model.width=24"), top1=20.0),
        finished(planned("rate=1", "task=teacher"), top1=88.0),
        finished(planned("rate=4", "target=none"), top1=50.0),
    ]
    table = table_of_cells(records)
    columns = ["task", "rate", "init", "target", "seeds", "top1"]
    assert table[columns].to_numpy().tolist() == [
        ["classify", 1, "scratch", "none", 1, 88.0],
        ["classify", 4, "scratch", "none", 1, 50.0],
        ["classify", 8, "full", "soft", 2, 61.5],
        ["classify", 8, "full", "soft", 1, 10.0],
        ["classify", 8, "full", "soft", 1, 20.0],
    ]
    assert table["top1_sd"][2] == pytest.approx(4.5**0.5)
    assert table["top1_sd"].isna().tolist() == [True, True, False, True, True]
    lines = tables_of(records)["rates-classify"]
    assert lines.columns.tolist() == ["step", "lineKey", "lineVal"]
    assert [1, "scratch, none", 88.0] in lines.to_numpy().tolist()


def test_without_a_run_there_is_a_workspace_with_empty_tables(server: Server) -> None:
    assert publish("me/p", [], {}) == Published(f"{server.url}/me/p?nw=facedistill", [])
    assert list(panels(server)) == ["facedistill: cells and tables"]


def attempt(run: Run, epochs: range, top1: float = 60.0, interrupted: bool = False) -> None:
    """What training a run logs, from the epoch where it was interrupted."""
    run.directory.mkdir(parents=True, exist_ok=True)
    run.weights.write_bytes(b"the same weights")
    rows = [{"epoch": epoch, "test/top1": 10.0 * epoch, "lr": 0.1} for epoch in range(epochs.stop)]
    try:
        with WandbRun(run) as dashboard:
            for row in rows[epochs.start :]:
                pd.DataFrame(rows[: row["epoch"] + 1]).to_csv(run.directory / "metrics.csv", index=False)  # type: ignore[misc]
                dashboard.log(row)
            if interrupted:
                raise KeyboardInterrupt
            dashboard.summarize(finished(run, top1=top1))
    except KeyboardInterrupt:
        assert interrupted
    finally:
        wandb.teardown()  # the file is whole once the service has ended


def offline_files(run: Run) -> list[OfflineRun]:
    return [read_file(path) for path in sorted(run.directory.glob("wandb/offline-run-*/*.wandb"))]


def sync(run: Run) -> None:
    """As the README describes."""
    folders = [str(path) for path in sorted(run.directory.glob("wandb/offline-run-*"))]
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *folders], capture_output=True, text=True, timeout=120, check=True
    )
    assert "rror" not in done.stdout + done.stderr


def make_older(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the folders older: W&B names them by the second."""
    for number, path in enumerate(sorted(run.directory.glob("wandb/offline-run-2*"))):
        path.rename(path.with_name(f"offline-run-1999010{number + 1}_000000-{run.identity}"))


def epochs_of(history: list[dict[str, Any]]) -> list[int]:
    return [line["epoch"] for line in history if "epoch" in line]


def test_a_synced_run_is_complete(server: Server, planned: Planner) -> None:
    run = planned(*WORDS, "logger.mode=offline")
    attempt(run, range(3))
    sync(run)
    sent = server.runs[run.identity]
    assert (sent["displayName"], sent["jobType"]) == (run.name, "classify-student")
    assert json.loads(sent["config"])["rate"]["value"] == 8
    assert epochs_of(server.history(run.identity)) == [0, 1, 2]
    assert {"final/top1": 60.0, "classify/top1": 60.0}.items() <= sent["summary"].items()
    (weights,) = [sent["input"] for sent in server.requests("CreateArtifact")]
    assert (weights["artifactCollectionName"], weights["artifactTypeName"]) == (artifact_name(run.name), "model")
    assert b"the same weights" in server.uploads.values()


def test_an_interrupted_run_is_one_run_in_one_folder(
    server: Server, planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(*WORDS, "logger.mode=offline")
    attempt(run, range(2), interrupted=True)
    make_older(run, monkeypatch)
    assert len(offline_files(run)) == 1
    attempt(run, range(2, 4))
    (file,) = offline_files(run)
    assert epochs_of(file.history) == [0, 1, 2, 3]
    sync(run)
    assert epochs_of(server.history(run.identity)) == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_run_that_was_synced_before_it_was_resumed_is_not_doubled(
    server: Server, planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(*WORDS, "logger.mode=offline")
    attempt(run, range(2), interrupted=True)
    sync(run)
    make_older(run, monkeypatch)
    attempt(run, range(2, 4))
    sync(run)
    assert epochs_of(server.history(run.identity)) == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_run_that_is_trained_again_updates_its_run(
    server: Server, planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(*WORDS, "logger.mode=offline")
    attempt(run, range(3), top1=60.0)
    sync(run)
    make_older(run, monkeypatch)
    attempt(run, range(3), top1=61.0)
    first, again = offline_files(run)
    assert first.run.run_id == again.run.run_id == run.identity
    sync(run)
    assert list(server.runs) == [run.identity]
    assert epochs_of(server.history(run.identity)) == [0, 1, 2]
    assert server.runs[run.identity]["summary"]["final/top1"] == 61.0
    first_weights, weights = [sent["input"] for sent in server.requests("CreateArtifact")]
    assert first_weights["digest"] == weights["digest"]
    assert weights["enableDigestDeduplication"]


@pytest.mark.slow
def test_an_online_run_that_is_trained_again_updates_its_run(server: Server, planned: Planner) -> None:
    run = planned(*WORDS, "logger.entity=me", "logger.project=p")
    attempt(run, range(3), top1=60.0)
    attempt(run, range(3), top1=61.0)
    assert list(server.runs) == [run.identity]
    assert epochs_of(server.history(run.identity)) == [0, 1, 2]
    assert server.runs[run.identity]["summary"]["final/top1"] == 61.0


@pytest.mark.slow
def test_an_online_run_uses_those_weights_of_its_ancestors_that_w_and_b_has(server: Server, planned: Planner) -> None:
    run = planned(*WORDS, "logger.entity=me", "logger.project=p")
    teacher, init = run.parents["teacher"].name, run.parents["init"].name
    server.artifacts.add(artifact_name(teacher))
    attempt(run, range(1))
    assert server.used == [(run.identity, artifact_name(teacher))]
    server.artifacts.add(artifact_name(init))
    assert publish("me/p", [finished(run, top1=60.0)], {}).missing == []
    assert server.used[1:] == [(run.identity, artifact_name(init))]


def test_after_a_sync_the_report_records_the_lineage(server: Server, planned: Planner, tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"weights")
    run = planned(*WORDS, "logger.mode=offline")
    init = run.parents["init"]
    other = planned("rate=8", "target=soft", f"teacher.weights={weights}")
    assert isinstance(init, Run)
    records = [finished(run, top1=60.0), finished(init, top1=50.0), finished(other, top1=40.0)]
    server.runs |= {run.identity: {}, other.identity: {}}
    server.artifacts |= {artifact_name(init.name)}
    published = publish("me/p", records, {})
    assert published.missing == [init.name]
    assert server.used == [(run.identity, artifact_name(init.name))]
    publish("me/p", records, {})
    assert len(server.used) == 1


def test_its_errors_need_no_traceback() -> None:
    assert issubclass(ConfigError, FacedistillError)
