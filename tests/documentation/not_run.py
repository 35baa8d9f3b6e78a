"""The blocks and commands of the documentation that no test runs, each with the reason."""

from __future__ import annotations

_CLIENT = "trains two jobs to the end; tests/trainyard/client has a test of each of these calls"
_DOCKER = "needs Docker, which is not where tests run; tests/test_compose.py holds the files to what the programs read"
_FASHION = "needs the files of Fashion-MNIST, which no test may download; quickstart.md does the same with digits"
_INSTALLS = "changes what is installed; it is a development tool here"
_KEY = "listens on every address of the machine; tests/trainyard/launch/test_yard.py starts yards with a key"
_PICTURE = "is a drawing, not a command"
_SET_UP = "downloads PyTorch; whoever runs the tests has run it"
_SEVERAL = "trains for long in several processes; tests/alexnet_core/commands/test_command_line.py runs torchrun"
_WEIGHTS = "needs files that others publish; tests/alexnet_core/export writes small ones in the same formats"

#: By page, and by what the first line of the block begins with, or that of a command in it (without its prompt).
NOT_RUN: dict[str, dict[str, str]] = {
    "README.md": {
        "make setup": _SET_UP,
    },
    "docs/life-of-a-job.md": {
        "client ── HTTP ──> api": _PICTURE,
    },
    "docs/deploy.md": {
        "cp .env.example .env": _DOCKER,
        "cat > .env <<END": _DOCKER,
        "make page && docker compose build": _DOCKER,
        "docker compose up --detach --wait": _DOCKER,
        "docker run --rm --volume": _DOCKER,
    },
    "docs/how-to/export.md": {
        "python -m alexnet_core export paper": (
            "needs a checkpoint that takes days; tests/alexnet_core/export/test_export_keras.py has the refusal"
        ),
        "$ python -m alexnet_core import-keras alexnet.h5": _WEIGHTS,
        "python -m alexnet_core import-torchvision": _WEIGHTS,
    },
    "docs/how-to/export-to-a-tracker.md": {
        "$ trainyard export mlflow": (
            "needs a tracking server; tests/trainyard/tracking/test_mlflow_export.py makes the same calls to one"
        ),
        "$ pip install 'trainyard[wandb]'": (
            "changes what is installed; tests/trainyard/tracking/test_wandb_export.py has an environment for it"
        ),
    },
    "docs/how-to/several-gpus.md": {
        '$ NET="--override norm=none': _SEVERAL,
        "$ python -m alexnet_core train --dataset digits --seed 3 $NET": _SEVERAL,
        "$ torchrun --nproc-per-node 2 -m alexnet_core train --dataset digits --seed 3 $NET": _SEVERAL,
        "another process of this run has ended": _SEVERAL,
        '$ TOWERS="$NET': _SEVERAL,
    },
    "docs/how-to/stop-and-go-on.md": {
        "2026-11-24T08:01:09.829000Z queued submitted": (
            "kills every process of a yard; tests/integration/test_yard.py does, and looks at the same history"
        ),
    },
    "docs/how-to/trace-a-yard.md": {"$ docker run": _DOCKER},
    "docs/how-to/train-on-fashion-mnist.md": {
        "$ ls sources/fashion-mnist": _FASHION,
        "$ export TRAINYARD_DATASETS_DIR": _FASHION,
        "$ curl -s localhost:8000/jobs ": _FASHION,
        "$ curl -s localhost:8000/datasets/fashion-mnist": _FASHION,
    },
    "docs/how-to/train-on-your-own-pictures.md": {"flowers/": _PICTURE},
    "docs/how-to/upload-a-dataset.md": {
        "const upload = new tus.Upload(file, {": (
            "tus-js-client comes from npm's registry; tests/integration/test_uploads.py runs it where that is reached"
        ),
    },
    "docs/how-to/give-keys-to-a-class.md": {
        "$ trainyard login http://the-machine:8000": "asks a person; tests/trainyard/commands/test_prompts.py answers",
    },
    "docs/how-to/use-a-key.md": {
        "$ export TRAINYARD_ADMIN_KEY": _KEY,
        "$ curl -s localhost:8000/jobs": _KEY,
        "$ TRAINYARD_MAX_REQUESTS_PER_S": "needs a yard with a key; tests/api/access/test_rate_limit.py limits some",
        "$ curl -s localhost:8000/keys": "needs a yard with a key; tests/api/routes/access/test_keys.py makes some",
    },
    "docs/how-to/use-an-object-store.md": {
        "pip install 'trainyard[yard,s3]'": (
            "needs a bucket of one's own; tests/integration/test_object_store.py runs yards with these settings"
        ),
    },
    "docs/how-to/use-existing-clients.md": {
        "pip install 'tritonclient[http]'": _INSTALLS,
        "from openai import OpenAI": (
            "trains a job; the tests in tests/api/routes/fine_tuning make the same calls with the package"
        ),
        "import asyncio, base64": (
            "kserve needs an environment of its own; tests/api/routes/models/test_kserve_client.py makes it"
        ),
    },
    "docs/how-to/use-postgresql-and-redis.md": {
        "requirepass another": "is the configuration of a server; the one that the test starts has it",
        "$ trainyard api &": (
            "is the other way to start a yard; tests/integration/fleet.py starts its processes one by one"
        ),
    },
    "docs/how-to/use-the-python-client.md": {
        "from trainyard import Client": _CLIENT,
        "from trainyard import AsyncClient": _CLIENT,
    },
    "docs/how-to/watch-a-job.md": {
        'curl -N "$URL/events"': "is a stream without end; tests/api/streams/test_yard_feed.py reads it"
    },
    "docs/how-to/watch-a-yard.md": {
        "$ promtool check config": (
            "needs Prometheus; tests/api/observability/test_dashboard_and_alerts.py runs it where it is installed"
        ),
    },
    "docs/quickstart.md": {"$ make setup": _SET_UP},
}


def find_reason(page: str, line: str) -> str | None:
    """Why a block or command with this first line is not run; None: it is."""
    return next((reason for start, reason in NOT_RUN.get(page, {}).items() if line.startswith(start)), None)
