"""Forms with images: a malformed one is 400 within little CPU time, as at the uploads of datasets."""

from __future__ import annotations

import time

import pytest

from tests.api.served import Served, error_of, png
from tests.api.uploads.test_forms import END, MALFORMED, file_part

FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
#: Malformed in a form with a dataset's file, and taken here: several images, and fields that nobody reads.
TAKEN_HERE = {"two-files", "large-field", "long-name", "not-utf8"}


@pytest.mark.parametrize("case", sorted(MALFORMED.keys() - TAKEN_HERE))
def test_a_malformed_form_is_400_and_cheap(served: Served, case: str) -> None:
    began = time.process_time()
    response = served.http.post("/predict", content=MALFORMED[case][0], headers=FORM)
    error_of(response, 400, "body_unreadable")
    assert time.process_time() - began < 0.5  # of client and server


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "b" * 10_000])
def test_a_type_without_a_usable_boundary_is_400(served: Served, boundary: str) -> None:
    response = served.http.post("/predict", content=b"x", headers={"Content-Type": "multipart/form-data" + boundary})
    error_of(response, 400, "body_unreadable")


def test_a_form_that_is_cut_off_between_two_images_is_not_answered_for_the_first(served: Served) -> None:
    served.add_checkpoint(served.add_job(), 1)
    whole = file_part(png()) + file_part(png())
    assert len(served.http.post("/predict", content=whole + END, headers=FORM).json()["results"]) == 2
    response = served.http.post("/predict", content=file_part(png()) + b"--XX\r\n", headers=FORM)
    assert "before its last boundary" in error_of(response, 400, "body_unreadable")["message"]


def test_a_form_without_a_file_reads_well_and_is_422(served: Served) -> None:
    error_of(served.http.post("/predict", content=END, headers=FORM), 422, "invalid_request")
