from __future__ import annotations

from tests.api.served import Served, error_of


def test_the_end_of_the_log(served: Served) -> None:
    job_id = served.add_job()
    empty = served.http.get(f"/jobs/{job_id}/logs")
    assert (empty.status_code, empty.text) == (200, "")
    assert empty.headers["content-type"] == "text/plain; charset=utf-8"
    folder = served.settings.data_dir / "logs" / "jobs"
    folder.mkdir(parents=True)
    (folder / f"{job_id}.log").write_bytes(b"first attempt\n<b>\xff\nsecond attempt\n")
    assert served.http.get(f"/jobs/{job_id}/logs", params={"tail": 2}).text == "<b>\ufffd\nsecond attempt\n"
    for tail in ("0", "-1", "10001", "x"):
        error_of(served.http.get(f"/jobs/{job_id}/logs", params={"tail": tail}), 422, "invalid_request")


def test_a_log_is_followed_from_its_end(served: Served) -> None:
    job_id = served.add_job()
    path, folder = f"/jobs/{job_id}/logs", served.settings.data_dir / "logs" / "jobs"
    folder.mkdir(parents=True)
    log = folder / f"{job_id}.log"
    log.write_bytes("one\nzwei ü\n".encode())
    end = served.http.get(path, params={"tail": 1})
    assert (end.text, end.headers["x-next-byte"]) == ("zwei ü\n", "12")
    with log.open("ab") as file:
        file.write("drei €".encode()[:-1])  # two of the three bytes of a character
    new = served.http.get(path, params={"from_byte": 12})
    assert (new.text, new.headers["x-next-byte"]) == ("drei ", "17")
    with log.open("ab") as file:
        file.write("€\n".encode()[2:])
    new = served.http.get(path, params={"from_byte": 17})
    assert (new.text, new.headers["x-next-byte"]) == ("€\n", "21")
    whole = served.http.get(path, params={"from_byte": 0})
    assert whole.headers["x-next-byte"] == str(log.stat().st_size)
    assert served.http.get(path, params={"from_byte": whole.headers["x-next-byte"]}).text == ""


def test_a_byte_beyond_the_end_is_refused(served: Served) -> None:
    job_id = served.add_job()
    path = f"/jobs/{job_id}/logs"
    assert served.http.get(path, params={"from_byte": 0}).status_code == 200
    assert error_of(served.http.get(path, params={"from_byte": 1}), 416, "beyond_the_end")["param"] == "from_byte"
    for wrong in ("-1", "x", str(2**63)):
        error_of(served.http.get(path, params={"from_byte": wrong}), 422, "invalid_request")
