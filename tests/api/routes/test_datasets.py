import httpx


def test_a_dataset_is_found_by_id_and_by_name(http: httpx.Client) -> None:
    digits = http.get("/datasets/digits").json()
    assert digits == http.get("/datasets/ds_digits").json()
    assert (digits["num_classes"], digits["builtin"], digits["flip_safe"]) == (10, True, False)
    assert "ds_digits" in [row["id"] for row in http.get("/datasets").json()["data"]]
