"""Names that only an attack has, and those that programs write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet_core.data.archives.member_names import clean_path
from alexnet_core.errors import DatasetInvalid

EVIL_NAMES = [
    "../evil.png",
    "a/../../evil.png",
    "a/..",
    "..",
    "/etc/cron.d/evil",
    "//server/share/evil.png",
    "C:\\evil.png",
    "c:evil.png",
    "C:/evil.png",
    "a\\..\\..\\evil.png",
    "a/evil.png\0.txt",
    "a/" + "x" * 256 + ".png",
    "a/" + "é" * 130 + ".png",
    "/".join(["x" * 200] * 25) + ".png",
    "a/NUL",
    "con/1.png",
    "a/com1.png",
    "a/Lpt9 .tar.png",
    "AUX",
]


@pytest.mark.parametrize("name", EVIL_NAMES, ids=lambda name: ascii(name)[:30])
def test_a_name_that_leads_elsewhere_condemns_the_archive(name: str) -> None:
    with pytest.raises(DatasetInvalid, match="Pack the folder of images again") as exc:
        clean_path(name)
    assert exc.value.problem == "archive_unsafe"
    assert str(exc.value).isprintable()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/1.png", "a/1.png"),
        ("./a//1.png", "a/1.png"),
        ("./", ""),
        (".", ""),
        ("", ""),
        ("a/./", "a/"),
        ("a/.", "a/"),
        ("a/..b/...png", "a/..b/...png"),
        ("console/nulls.png", "console/nulls.png"),
        ("a b:c/1.png", "a b:c/1.png"),
        ("\udce9/1.png", "\udce9/1.png"),
        ("x" * 255, "x" * 255),
    ],
)
def test_other_names_are_relative_paths(name: str, path: str) -> None:
    assert clean_path(name) == path


@given(st.text(alphabet=st.sampled_from("abC.:/\\\0é \u202e\udcff"), max_size=12))
def test_no_name_leads_out(name: str) -> None:
    try:
        path = clean_path(name)
    except DatasetInvalid:
        return
    assert not path.startswith("/")
    assert not {"..", "."} & set(path.split("/"))
    assert not set("\\\0") & set(path)
    assert clean_path(path) == path
