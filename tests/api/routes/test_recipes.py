import httpx

from tests.api.served import error_of


def test_recipes_are_described(http: httpx.Client) -> None:
    names = [row["name"] for row in http.get("/recipes").json()["data"]]
    assert "quick" in names
    quick = http.get("/recipes/quick").json()
    assert quick["config_schema"]["properties"]["epochs"]
    assert quick["num_parameters"] > 0
    assert http.get("/recipes/quick?num_classes=100").json()["num_parameters"] > quick["num_parameters"]
    error_of(http.get("/recipes/quick?num_classes=1"), 422, "invalid_request")
