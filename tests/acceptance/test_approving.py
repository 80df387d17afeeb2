"""Two developers at two terminals of production: one approves what a dry run has shown, the other starts it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from system_migration.token_file import make_token
from tests.support.command import PATIENCE, Project
from tests.support.workload import INCREMENT, ONCE, increments, prepare

NAME = "002-increment"
RUN = ("run", NAME, "--yes", "--batch-size", "50")


@dataclass(frozen=True)
class Team:
    """A project in production, and the files with the developers' tokens."""

    project: Project
    folder: Path

    def token(self, who: str) -> str:
        return (self.folder / who).read_text(encoding="utf-8").strip()

    def file(self, who: str) -> tuple[str, str]:
        return "--token-file", str(self.folder / who)

    def rehearsed(self) -> str:
        report: str = self.project.json("dry-run", NAME, "--batch-size", "50")["reports"][0]["hash"]
        return report


@pytest.fixture
def team(sqlite_project: Project, tmp_path: Path) -> Team:
    lines = []
    for who in ("ada", "bob"):
        token, line = make_token(who)
        lines.append(line)
        write(tmp_path / who, token)
    write(tmp_path / "tokens", "\n".join(lines))
    needed = {"REQUIRE_APPROVAL": "true", "MIGRATION_TOKENS": str(tmp_path / "tokens")}
    sqlite_project.environ |= {"MIGRATION_ENVIRONMENT": "production"} | needed
    prepare(sqlite_project, ("002_increment", INCREMENT))
    return Team(sqlite_project, tmp_path)


def write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o600)


def test_one_approves_and_the_other_starts(team: Team) -> None:
    project = team.project
    assert "Another developer approves it" not in project.run(*RUN, code=5).err
    report = team.rehearsed()
    assert f"report         {report}" in project.run("dry-run", NAME, "--batch-size", "50").out
    assert f"`migration approve {NAME} --report {report[:12]}`" in project.run(*RUN, *team.file("ada"), code=5).err
    told = project.run("approve", NAME, "--report", report[:12], *team.file("bob"))
    assert told.out == f"{NAME} is approved by bob for report {report}.\n"
    assert "by bob at " in project.run("show", NAME).out
    assert "nothing proves who starts it" in project.run(*RUN, code=5).err
    refused = project.json(*RUN, *team.file("bob"), code=5)["error"]
    assert refused["code"] == "not-approved"
    assert "bob approved it, and cannot start it as well" in refused["message"]
    assert "differs from the approved dry run in: batch size" in project.run(*RUN[:3], *team.file("ada"), code=5).err
    assert "COMPLETED" in project.run(*RUN, env={"MIGRATION_TOKEN": team.token("ada")}).out
    assert increments(project) == ONCE
    assert project.json("history", NAME)[0]["executedBy"] == "ada"


def test_what_is_edited_or_withdrawn_after_the_approval_does_not_start(team: Team) -> None:
    project = team.project
    approve = ("approve", NAME, "--report", team.rehearsed(), *team.file("bob"))
    assert project.json(*approve)["parameters"] == {"batchSize": 50}
    project.run("approve", NAME, "--withdraw")
    refused = project.run(*RUN, *team.file("ada"), code=5).err
    assert re.search("the approval by bob holds no more, as .+ withdrew it", refused)
    project.run(*approve)
    project.write("002_increment", INCREMENT.replace("+ 1", "+ 2"))
    assert "its file has changed since" in project.run(*RUN, *team.file("ada"), code=5).err
    assert "its file has changed since. Make a new dry run." in project.run(*approve, code=5).err


def test_a_token_says_who_it_is_or_nothing(team: Team, tmp_path: Path) -> None:
    project, report = team.project, team.rehearsed()
    approve = ("approve", NAME, "--report", report)
    assert "Nothing proves who approves" in project.run(*approve, code=5).err
    foreign = {"MIGRATION_TOKEN": make_token("bob")[0]}
    assert "This token is not one of the token file's." in project.run(*approve, code=5, env=foreign).err
    for arguments, said in (
        ((*team.file("bob"), "--executed-by", "eve"), "The token says who acts."),
        (("--token-file", str(tmp_path / "none")), "cannot be read (No such file"),
    ):
        assert said in project.run(*approve, *arguments, code=2).err
    assert (
        "MIGRATION_TOKENS is not set"
        in project.run(*approve, *team.file("bob"), code=2, env={"MIGRATION_TOKENS": None}).err
    )
    (tmp_path / "bob").chmod(0o644)
    assert "is open to others" in project.run(*approve, *team.file("bob"), code=2).err
    assert "--report HASH, or give --withdraw" in project.run("approve", NAME, code=2).err
    assert not any(team.token("bob") in ended.said for ended in project.said)


def test_who_approves_at_a_server_is_who_has_the_token_here(team: Team) -> None:
    """`migration serve` takes the file of MIGRATION_TOKENS, so that both doors know the same developers."""
    project, params = team.project, {"report": team.rehearsed()}
    with project.start("serve", "--port", "0") as server:
        server.wait_for("Serving production on ")
        found = re.search(r"on (http://\S+)", server.err())
        assert found is not None
        headers = {"Authorization": f"Bearer {team.token('bob')}"}
        answer = httpx.post(f"{found[1]}/approve/{NAME}", params=params, headers=headers, timeout=PATIENCE)
        assert answer.json()["approvedBy"] == "bob"
        server.signal(signal.SIGTERM)
        server.end()
    assert "bob approved it, and cannot" in project.run(*RUN, *team.file("bob"), code=5).err
    project.run(*RUN, *team.file("ada"))


def test_an_unattended_start_in_production_waits_for_an_approval(team: Team) -> None:
    project = team.project
    settings = ("RUN_MIGRATIONS_ON_STARTUP", "AUTO_MIGRATE", "ALLOW_PRODUCTION_AUTO_MIGRATE")
    unattended = dict.fromkeys(settings, "true")
    assert "it has no approval" in project.run("startup", "--", "true", env=unattended).err
    report = project.json("dry-run", NAME)["reports"][0]["hash"]
    project.run("approve", NAME, "--report", report, *team.file("bob"))
    project.run("startup", env=unattended)
    assert project.status(NAME)["status"] == "COMPLETED"
