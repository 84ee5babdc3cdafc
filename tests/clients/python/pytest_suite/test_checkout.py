"""A suite whose results qase-pytest reports to Qase: one test passes, one fails."""


def test_total():
    assert 40 + 2 == 42


def test_discount():
    assert 41 == 42, "total is 41, not 42"
