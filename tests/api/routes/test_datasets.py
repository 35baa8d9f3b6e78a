from pathlib import Path

import httpx

from tests.api.served import Served
from tests.api.stored_datasets import add_classes, make_digits_ready


def test_a_dataset_is_found_by_id_and_by_name(http: httpx.Client) -> None:
    digits = http.get("/datasets/digits").json()
    assert digits == http.get("/datasets/ds_digits").json()
    assert (digits["num_classes"], digits["builtin"], digits["flip_safe"]) == (10, True, False)
    assert "ds_digits" in [row["id"] for row in http.get("/datasets").json()["data"]]


def test_a_ready_dataset_names_what_can_be_looked_at(served: Served, tmp_path: Path) -> None:
    assert served.http.get("/datasets/digits").json()["links"] == {"self": "/datasets/ds_digits"}
    dataset_id, _ = add_classes(served, tmp_path)
    links = served.http.get(f"/datasets/{dataset_id}").json()["links"]
    assert {"images", "sprite", "preview", "mean", "histogram", "report", "rejected", "download"} <= set(links)
    for link in links.values():
        assert served.http.get(link).status_code == 200, link
    make_digits_ready(served)
    builtin = served.http.get("/datasets/digits").json()["links"]
    assert set(links) - set(builtin) == {"report", "rejected"}
    for link in builtin.values():
        assert served.http.get(link).status_code == 200, link
