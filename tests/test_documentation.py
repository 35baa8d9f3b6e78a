"""The documentation names everything that there is, and nothing that there is not.

`python -m tests.test_documentation` writes the tables anew that are made from the code.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

import alexnet_core.__main__
import api.__main__
import trainyard.launch.cli
import worker.process
from alexnet_core.config import TrainConfig
from alexnet_core.data.intake.findings import FindingCode
from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.recipes import list_recipes
from api.app import create_app
from api.http.documentation import PATHS
from api.schemas.jobs import CheckpointRead, JobRead
from tests.api.served import FakeRuntime, Served
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.errors import ServiceError
from trainyard.jobs.failures import FAILURES
from trainyard.scheduling.queue import SilentWaker
from trainyard.settings import Settings
from trainyard.settings.documented_settings import DocumentedSettings
from trainyard.states import MOVES, Desired, EventType, JobState, ShownState

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OPENAPI: dict[str, Any] = create_app(Settings()).openapi()
EVERYWHERE = {
    "unauthenticated",
    "scope_missing",
    "rate_limited",
    "internal_error",
}  #: of every route that asks for a key; said once
UNITS = {"_s": "seconds", "_bytes": "bytes", "_pixels": "pixels", "_threads": "threads"}
COMPOSE_ONLY = {"TRAINYARD_PUBLISH"}  #: read by docker-compose.yml, not by the yard

# --- what is read out of a page ---


def section(page: str, heading: str) -> str:
    """The text under a heading, down to the next one."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}$", text, re.M)
    assert found, f"docs/{page} has no heading {heading!r}"
    return re.split(r"^#+ ", text[found.end() :], maxsplit=1, flags=re.M)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row that begins with a name in backticks."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(text: str) -> list[str]:
    """The names in backticks that its table rows begin with."""
    return [row[0].strip("`") for row in rows(text)]


def headings(page: str, level: int) -> list[str]:
    """The headings of a level, without their backticks."""
    found = re.findall(rf"^{'#' * level} (.+)$", (DOCS / page).read_text(), re.M)
    return [heading.replace("`", "") for heading in found]


def assert_same(documented: list[str] | set[str], real: set[str], what: str) -> None:
    """Everything once, and nothing else."""
    assert sorted(documented) == sorted(real), (
        f"{what}: not documented {sorted(real - set(documented))}, documented only {sorted(set(documented) - real)}"
    )


# --- tables that are made from the code ---


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _value(value: object) -> str:
    if value is None or value == "":
        return ""
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def settings_table() -> str:
    """Every setting, by its group: default, unit, meaning."""
    lines: list[str] = []
    for group in Settings.__bases__:
        assert issubclass(group, DocumentedSettings)
        assert group.__doc__
        lines += ["", f"## {group.__doc__.strip().removesuffix('.')}", ""]
        lines += ["| setting | default | unit | meaning |", "|---|---|---|---|"]
        for name, field in group.model_fields.items():
            unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
            value, meaning = _value(field.default), _one_line(field.description)
            lines.append(f"| `TRAINYARD_{name.upper()}` | {value} | {unit} | {meaning} |")
    return "\n".join([*lines, ""])


def _allowed(name: str) -> str:
    schema = TrainConfig.model_json_schema()["properties"][name]
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    if (choices := options[0].get("enum") or ([options[0]["const"]] if "const" in options[0] else None)) is not None:
        return ", ".join(f"`{choice}`" for choice in choices)
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {options[0][key]}".removesuffix(".0") for key, sign in signs.items() if key in options[0]]
    kind = options[0]["type"].replace("boolean", "`true`, `false`").replace("array", "list")
    return ", ".join([kind, *bounds])


def options_table() -> str:
    """Every training option: default, what is allowed, meaning."""
    lines = ["| option | default | allowed | meaning |", "|---|---|---|---|"]
    for name, field in TrainConfig.model_fields.items():
        default = "the recipe's" if field.default is PydanticUndefined else _value(field.default) or "none"
        lines.append(f"| `{name}` | {default} | {_allowed(name)} | {_one_line(field.description)} |")
    return "\n".join(lines)


def recipes_table() -> str:
    """Every recipe."""
    lines = ["| recipe | is | made for |", "|---|---|---|"]
    lines += [f"| `{it.name}` | {_one_line(it.title)} | {_one_line(it.description)} |" for it in list_recipes()]
    return "\n".join(lines)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("reference/settings.md", settings_table),
    "options": ("reference/training-options.md", options_table),
    "recipes": ("reference/training-options.md", recipes_table),
}
_BEGIN, _END = "<!-- table {}: made from the code -->\n", "\n<!-- end -->"


def write_tables() -> None:
    """Put the tables into their pages."""
    for name, (page, build) in TABLES.items():
        path = DOCS / page
        before, _, rest = path.read_text().partition(_BEGIN.format(name))
        path.write_text(before + _BEGIN.format(name) + build() + _END + rest.partition(_END)[2])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_code_says(name: str) -> None:
    page, build = TABLES[name]
    written = (DOCS / page).read_text().partition(_BEGIN.format(name))[2].partition(_END)[0]
    assert written.splitlines() == build().splitlines(), "run `python -m tests.test_documentation`"


# --- settings ---


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_setting_that_is_mentioned_exists(path: Path) -> None:
    known = {f"TRAINYARD_{name.upper()}" for name in Settings.model_fields} | COMPOSE_ONLY
    assert set(re.findall(r"TRAINYARD_[A-Z][A-Z_]*[A-Z]", path.read_text())) <= known


# --- routes ---

OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in OPENAPI["paths"].items()
    for method, operation in operations.items()
}


def test_every_route_has_its_heading() -> None:
    assert_same(headings("reference/http.md", 3), set(OPERATIONS), "routes")


@pytest.mark.parametrize("route", OPERATIONS)
def test_a_routes_parameters_are_described(route: str) -> None:
    text = section("reference/http.md", f"`{route}`")
    given = {parameter["name"] for parameter in OPERATIONS[route].get("parameters", [])}
    body = OPERATIONS[route].get("requestBody", {}).get("content", {})
    given |= set(body.get("multipart/form-data", {}).get("schema", {}).get("properties", {}))
    schema = body.get("application/json", {}).get("schema", {})
    given |= set(
        OPENAPI["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
    )
    assert_same(names(text), given, f"parameters of {route}")


@pytest.mark.parametrize("route", OPERATIONS)
def test_a_routes_refusals_are_named(route: str) -> None:
    text = section("reference/http.md", f"`{route}`")
    real = {
        (int(status), code)
        for status, answer in OPERATIONS[route]["responses"].items()
        for code in re.findall(r"`([a-z_]+)`", answer["description"] if int(status) >= 400 else "")
        if code not in EVERYWHERE
    }
    listed = re.sub(r"\(.*?\)", "", text.partition("\nRefusals: ")[2].partition("\n\n")[0], flags=re.S)
    documented = {
        (int(part.split()[0]), code) for part in listed.split(";") if part for code in re.findall(r"`([a-z_]+)`", part)
    }
    assert documented == real


def test_every_field_of_a_job_and_a_checkpoint_is_described() -> None:
    assert_same(names(section("reference/http.md", "The job")), fields_of(JobRead), "fields of a job")
    found = names(section("reference/http.md", "The checkpoint"))
    assert_same(found, fields_of(CheckpointRead), "fields of a checkpoint")


def fields_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields) | set(model.model_computed_fields)


def problems_of_datasets() -> set[str]:
    """What stands in the code as the problem of a `DatasetInvalid`."""
    found: set[str] = set()
    for path in (ROOT / "alexnet_core" / "data").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [keyword.value for keyword in node.keywords if keyword.arg == "problem"]
            given += node.args[:1] if name == "refused" else node.args[1:2] if name == "require" else []
            found |= {it.value for it in given if isinstance(it, ast.Constant) and isinstance(it.value, str)}
    return found


def test_every_problem_and_finding_of_a_dataset_is_named() -> None:
    text = section("reference/cli.md", "`python -m alexnet_core prepare`")
    listed = " ".join(line for line in text.splitlines() if re.match(r" *- `[a-z_`, ]+`: ", line))
    documented = re.findall(r"`([a-z_]+)`", re.sub(r": .*?(?= *- `|$)", "", listed))
    problems = problems_of_datasets()
    assert {"archive_bomb", "too_few_classes", "layout_unclear"} <= problems
    assert_same(documented, problems | set(FindingCode), "problems and findings")


def test_every_built_in_dataset_is_named() -> None:
    listed = re.findall(r"^- (`.+?):", section("reference/http.md", "`GET /datasets`"), re.M)
    assert_same(re.findall(r"`([^`]+)`", " ".join(listed)), set(BUILTINS), "built-in datasets")


def test_every_operation_has_texts() -> None:
    for route, operation in OPERATIONS.items():
        assert operation["summary"] != operation["operationId"].replace("_", " ").title(), f"{route} has no summary"
        assert operation["description"], route
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (route, parameter["name"])
        assert operation["tags"][0] in {tag["name"] for tag in OPENAPI["tags"]}, route
    assert "HTTPValidationError" not in str(OPENAPI)


# --- errors, failures, states, events ---


def _tree(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def test_every_error_code_has_its_row() -> None:
    real = {f"{kind.code} {kind.status}" for kind in _tree(ServiceError) if kind.__module__.split(".")[0] != "tests"}
    documented = [
        f"{row[0].strip('`')} {row[1]}" for row in rows(section("reference/errors.md", "Refusals by the API"))
    ]
    assert_same(documented, real, "error codes")


def test_every_failure_code_has_its_row_with_its_rule() -> None:
    text = section("reference/errors.md", "Failures of a job")
    real = {f"{it.code} {_yes(it.retryable)} {_yes(it.retryable and it.counts)}" for it in FAILURES.values()}
    documented = [f"{row[0].strip('`')} {row[1]} {row[2]}" for row in rows(text)]
    assert_same(documented, real, "failure codes")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def test_every_state_desired_state_move_and_event_has_its_row() -> None:
    page = "life-of-a-job.md"
    assert_same(names(section(page, "States")), set(ShownState), "states")
    assert_same(names(section(page, "Desired states")), set(Desired), "desired states")
    assert_same(names(section(page, "Events")), set(EventType), "event types")
    moves = {f"{origin.value} -> {target.value}" for origin in JobState for target in MOVES[origin]}
    assert_same(names(section(page, "Moves")), moves, "moves")


# --- threads ---

_STARTED = (
    r'Thread\([^#]*?name=f?"([a-z-]+)',  # a thread of its own function
    r'super\(\).__init__\(name=f?"([a-z-]+)',  # a class that is a thread
    r'thread_name_prefix="([a-z-]+)"',
    r'_open_lane\("([a-z-]+)"',  # a worker's work beside its slots
    r'FairPool\(.*, "([a-z-]+)"\)',
    r'\("([a-z-]+)", self\._\w+\)',  # the worker's own, started in a loop
)


def test_every_thread_has_its_row() -> None:
    sources = [
        path for package in ("api", "worker", "trainyard", "alexnet_core") for path in (ROOT / package).rglob("*.py")
    ]
    started = {
        name.strip("-")
        for path in sources
        if "threading" in (text := path.read_text()) or "ThreadPoolExecutor" in text or "FairPool" in text
        for pattern in _STARTED
        for name in re.findall(pattern, text, re.S if pattern.startswith("Thread") else 0)
    }
    listed = {
        re.sub(r"[`…-]+$", "", name.strip("`").split("`")[0]) for name in names((DOCS / "threads.md").read_text())
    }
    assert len(started) > 10
    assert_same(listed, started, "threads")


def test_every_lock_is_named() -> None:
    written = (DOCS / "threads.md").read_text()
    locks = {
        name
        for package in ("api", "worker", "trainyard", "alexnet_core")
        for path in (ROOT / package).rglob("*.py")
        for name in _locks_of(path)
    }
    assert len(locks) > 20
    assert {name for name in locks if f"`{name}`" not in written} == set()


def _locks_of(path: Path) -> Iterator[str]:
    """Each lock that a module keeps, by its class or module."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            kept = {name for it in ast.walk(node) for name in _locks_in(it) if name.startswith("self.")}
            yield from (name.replace("self", node.name, 1) for name in kept)
    yield from (f"{path.stem}.{name}" for it in tree.body for name in _locks_in(it))


def _locks_in(node: ast.AST) -> Iterator[str]:
    """What a statement assigns a lock to, or declares to hold some."""
    assigned: list[tuple[ast.expr, ast.expr]] = []
    if isinstance(node, ast.AnnAssign):
        assigned = [(node.target, node.annotation)]
    elif isinstance(node, ast.Assign):
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            assigned = [*zip(target.elts, value.elts, strict=True)]
        else:
            assigned = [(target, value)]
    for target, value in assigned:
        if re.search(r"threading\.(Lock|Condition)\b", ast.unparse(value)):
            yield ast.unparse(target)


# --- the command line ---

_PROGRAMS = {
    "trainyard": trainyard.launch.cli.app,
    "python -m alexnet_core": alexnet_core.__main__.app,
    "python -m api": api.__main__.app,
    "python -m worker": worker.process.app,
}


def _commands() -> dict[str, Any]:
    """Every command by what is typed for it."""
    found: dict[str, Any] = {}
    for program, app in _PROGRAMS.items():
        found |= _commands_below(program, typer.main.get_command(app))
    return found


def _commands_below(typed: str, command: Any) -> dict[str, Any]:
    below = getattr(command, "commands", None)
    if below is None:
        return {typed: command}
    return {full: each for name in below for full, each in _commands_below(f"{typed} {name}", below[name]).items()}


def test_every_command_has_its_heading() -> None:
    assert_same(headings("reference/cli.md", 3), set(_commands()), "commands")


@pytest.mark.parametrize("command", _commands())
def test_every_option_has_its_row(command: str) -> None:
    real: set[str] = set()
    for parameter in _commands()[command].params:
        is_option = parameter.param_type_name == "option"
        real |= set(parameter.opts) if is_option else {parameter.metavar or parameter.name}
    assert_same(names(section("reference/cli.md", f"`{command}`")), real - {"--help"}, f"options of {command}")


@pytest.mark.parametrize("command", _commands())
def test_help_explains_every_option(command: str) -> None:
    [program] = [name for name in _PROGRAMS if f"{command} ".startswith(f"{name} ")]
    done = CliRunner().invoke(_PROGRAMS[program], [*command.removeprefix(program).split(), "--help"])
    assert done.exit_code == 0, done.output
    assert_explained(command, done.output)


@pytest.mark.parametrize("program", _PROGRAMS)
def test_help_explains_every_option_as_a_user_asks_for_it(program: str) -> None:
    """Of the process itself, for a command of each program."""
    command = next(name for name in _commands() if f"{name} ".startswith(f"{program} "))
    words = command.removeprefix("python -m ").split()
    done = subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True)
    assert_explained(command, done.stdout)


def assert_explained(command: str, shown: str) -> None:
    for parameter in _commands()[command].params:
        assert parameter.help, f"{parameter.name} of {command} is not explained"
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name
        assert name in shown


# --- links and proofs ---


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_resolves(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{link} leads nowhere"
        assert file.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor:
            found = {_slug(heading) for heading in re.findall(r"^#+ (.+)$", file.read_text(), re.M)}
            assert anchor in found, f"{file.name} has no heading for {link}"


def test_the_index_leads_to_every_page() -> None:
    linked: set[Path] = set()
    for index in (DOCS / "README.md", DOCS / "decisions" / "README.md"):
        links = re.findall(r"\]\(([^)#\s]+)\)", index.read_text())
        linked |= {(index.parent / link).resolve() for link in links if "://" not in link}
    assert {page for page in PAGES if page.name != "README.md"} <= linked


def test_every_test_that_a_page_names_as_proof_exists() -> None:
    proofs = [proof for page in PAGES for proof in re.findall(r"tests/[\w/]+\.py::[\w:]+", page.read_text())]
    assert proofs
    for proof in proofs:
        file, *parts = proof.split("::")
        text = (ROOT / file).read_text()
        for part in parts:
            assert re.search(rf"^\s*(async )?(def|class) {part}\b", text, re.M), f"there is no {proof}"


# --- the page at /docs ---


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    settings = Settings(data_dir=tmp_path, admin_key="k" * 20)
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    app = create_app(settings, database=database, waker=SilentWaker(), runtime=FakeRuntime())
    server = Served(app, database, settings)
    yield server
    server.stop()
    database.close()


def test_the_docs_page_needs_nothing_from_elsewhere(served: Served) -> None:
    page = httpx.get(f"{served.url}/docs", trust_env=False)
    assert page.status_code == 200
    assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {f"/{path}" for path in wanted} == PATHS - {"/docs"} | {"/openapi.json"}
    for path in wanted:
        answer = httpx.get(f"{served.url}/{path}", trust_env=False)
        assert answer.status_code == 200, path
        assert answer.content
    assert "SwaggerUIBundle" in httpx.get(f"{served.url}/docs/swagger-ui-bundle.js", trust_env=False).text


@pytest.mark.parametrize("path", ["/docs/", "/docs/redoc.standalone.js", "/docs/..%2fcore.py", "/docs/%2e%2e/core.py"])
def test_nothing_else_of_the_package_is_served(served: Served, path: str) -> None:
    answer = httpx.get(f"{served.url}{path}", headers={"Authorization": f"Bearer {'k' * 20}"}, trust_env=False)
    assert answer.status_code == 404


def test_the_document_asks_for_a_key_where_there_is_one() -> None:
    locked = create_app(Settings(admin_key="k" * 20)).openapi()
    assert locked["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    open_paths = {path for path, operations in locked["paths"].items() if "security" not in str(operations)}
    assert open_paths == {"/healthz", "/readyz", "/yard"}
    opened = create_app(Settings(admin_key="k" * 20, open_metrics=True)).openapi()["paths"]
    assert {path for path, operations in opened.items() if "security" not in str(operations)} - open_paths == {
        "/metrics"
    }
    assert "securitySchemes" not in OPENAPI["components"]


if __name__ == "__main__":
    write_tables()
