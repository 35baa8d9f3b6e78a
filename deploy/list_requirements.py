"""Print the requirements of images: `list_requirements.py PYPROJECT GROUP…`, groups of `tool.trainyard.images`.

It runs where nothing is installed yet, so it knows the standard library alone.
"""

import re
import sys
import tomllib


def list_requirements(pyproject: str, *groups: str) -> list[str]:
    """The dependencies of the project and its extras `yard`, `s3`, `otel` that the groups name, with their versions."""
    with open(pyproject, "rb") as file:
        document = tomllib.load(file)
    images = document["tool"]["trainyard"]["images"]
    named = {name for group in groups for name in images[group]}
    extras = document["project"]["optional-dependencies"]
    texts = document["project"]["dependencies"] + extras["yard"] + extras["s3"] + extras["otel"]
    dependencies = {re.split(r"[^\w.-]", text, maxsplit=1)[0]: text for text in texts}
    if unknown := named - set(dependencies):
        sys.exit(f"{' or '.join(groups)} names what is no dependency: {', '.join(sorted(unknown))}")
    return [text for name, text in dependencies.items() if name in named]


if __name__ == "__main__":
    sys.stdout.write("\n".join(list_requirements(*sys.argv[1:])) + "\n")
