from api.remote.plain_messages import pack_answer, pack_question, unpack_answer, unpack_question
from api.serving.interface import PlainAnswer


def test_a_question_and_its_answer_come_over_as_they_are() -> None:
    asked = (2**40, "änn", "production", b"\x89PNG\0", 999)
    assert unpack_question(pack_question(*asked)) == asked
    assert unpack_question(pack_question(1, "", "latest", b"", 1)) == (1, "", "latest", b"", 1)
    answer = PlainAnswer("ckpt_1", '{"label":"Köter"'.encode())
    assert unpack_answer(pack_answer(7, answer)) == (7, answer)
