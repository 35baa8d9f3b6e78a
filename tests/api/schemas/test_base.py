from __future__ import annotations

import math
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ValidationError

from api.schemas.base import DESCRIBED, STRICT, FiniteObject, ListRead, RowView, Time


class Thing(BaseModel):
    """Something with a time."""

    model_config = DESCRIBED

    id: str
    at: Time
    ended_at: Time | None
    data: FiniteObject


ROW = SimpleNamespace(id="a", at=1.0004, ended_at=None, data={"loss": math.nan, "list": [math.inf, 1.5]})


def test_a_model_is_read_from_a_row_with_times_in_utc_and_finite_numbers() -> None:
    thing = Thing.model_validate(ROW)
    assert thing.at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert thing.ended_at is None
    assert thing.data == {"loss": None, "list": [None, 1.5]}


def test_what_stands_beside_a_row_goes_before_its_columns() -> None:
    assert Thing.model_validate(RowView(ROW, id="b")).id == "b"
    with pytest.raises(AttributeError):
        _ = RowView(ROW).nothing


def test_a_page_names_its_ends() -> None:
    things = [Thing.model_validate(RowView(ROW, id=name)) for name in "abc"]
    page = ListRead[Thing].of(things, has_more=True)
    assert (page.first_id, page.last_id, page.has_more) == ("a", "c", True)
    empty = ListRead[Thing].of([], has_more=False)
    assert (empty.first_id, empty.last_id) == (None, None)


def test_what_comes_in_is_strict() -> None:
    class Body(BaseModel):
        model_config = STRICT
        number: float

    for wrong in ({"number": "1"}, {"number": 1.0, "other": 2}, {"number": math.nan}):
        with pytest.raises(ValidationError):
            Body.model_validate(wrong)


def test_every_field_that_goes_out_is_required_in_the_schema() -> None:
    schema = ListRead[Thing].model_json_schema(mode="serialization")
    assert set(schema["$defs"]["Thing"]["required"]) == {"id", "at", "ended_at", "data"}
