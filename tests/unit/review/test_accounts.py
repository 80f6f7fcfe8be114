"""The file of users: what names and passwords are taken, that the last admin stays, and that nobody else reads it."""

import stat
import threading

import pytest
from argon2 import PasswordHasher

from nonet.errors import DataError, StorageError
from nonet.review.accounts import Accounts

GOOD = "correct horse battery"


@pytest.fixture
def accounts(tmp_path):
    return Accounts(tmp_path / "review" / "users.sqlite")


def names(accounts):
    return [user.name for user in accounts.users()]


def test_the_file_is_its_owner_s_alone_also_when_it_was_restored_otherwise(accounts):
    accounts.add("Ada", GOOD, "admin")
    for file in accounts.path.parent.glob("users.sqlite*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    accounts.path.chmod(0o644)
    Accounts(accounts.path)
    assert stat.S_IMODE(accounts.path.stat().st_mode) == 0o600


def test_users_are_listed_by_name_with_role_and_tokens(accounts):
    accounts.add("ben", GOOD, "reader")
    accounts.add(" Ada Lee ", GOOD, "admin")
    accounts.add_token("ada lee", "laptop", days=2)
    ada, ben = accounts.users()
    assert (ada.name, ada.role, [*ada.tokens]) == ("Ada Lee", "admin", ["laptop"])
    assert ada.tokens["laptop"] - ada.created_at == pytest.approx(2 * 86400, abs=5)
    assert (ben.name, ben.role, ben.tokens) == ("ben", "reader", {})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Ada", "ADA"),
        ("Zo\u00eb", "Zoe\u0308"),
        ("Strau\u00df", "STRAUSS"),
        ("\uff21da", "ada"),
        ("A. Lee", "A.\u00a0 Lee"),
    ],
)
def test_names_that_look_alike_are_one(accounts, first, second):
    accounts.add(first, GOOD, "admin")
    with pytest.raises(DataError, match="exists already"):
        accounts.add(second, GOOD, "admin")
    assert accounts.log_in(second, GOOD)
    accounts.remove(second)
    assert names(accounts) == []


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "a\u202eb", "\ud800", "a\x00"])
def test_a_name_that_cannot_be_read_is_refused(accounts, name):
    with pytest.raises(DataError, match="printable"):
        accounts.add(name, GOOD, "admin")


@pytest.mark.parametrize("name", ["Müller", "王 小明", "O'Brien", "<b>", "🙂", "Ada; DROP TABLE users"])
def test_other_names_are_taken_as_they_are(accounts, name):
    assert accounts.add(name, GOOD, "admin").name == name
    cookie = accounts.log_in(name, GOOD)
    assert accounts.session(cookie).user.name == name


@pytest.mark.parametrize(
    "password", ["", "x" * 11, "e\u0308" * 11, "x" * 1001, "é" * 501, "ada lee the 3rd", "ADA  Lee the 3rd"]
)
def test_a_password_that_is_short_huge_or_the_name_is_refused(accounts, password):
    with pytest.raises(DataError, match="assword"):
        accounts.add("Ada Lee the 3rd", password, "admin")
    accounts.add("Ada Lee the 3rd", GOOD, "admin")
    with pytest.raises(DataError, match="assword"):
        accounts.set_password("ada lee the 3rd", password)
    assert accounts.log_in("Ada Lee the 3rd", GOOD)


@pytest.mark.parametrize("password", ["x" * 12, "x" * 1000, "            ", "é" * 12, "🙂" * 250, "a\x00bcdefghijkl"])
def test_any_other_password_is_taken(accounts, password):
    accounts.add("Ada", password, "admin")
    assert accounts.log_in("Ada", password)
    assert not accounts.log_in("Ada", password[:-1])
    assert not accounts.log_in("Ada", password + " ")


def test_keyboards_compose_letters_differently(accounts):
    accounts.add("Ada", "Zo\u00eb likes cells", "admin")
    assert accounts.log_in("Ada", "Zoe\u0308 likes cells")


def test_a_hash_with_other_parameters_is_renewed_at_the_next_login(accounts):
    accounts.add("Ada", GOOD, "admin")
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with accounts.transaction() as connection:
        connection.execute("UPDATE users SET password = ?", (weak.hash(GOOD),))
    assert not accounts.log_in("Ada", "another password")
    cookie = accounts.log_in("Ada", GOOD)
    assert accounts.session(cookie)
    with accounts.connect() as connection:
        (stored,) = connection.execute("SELECT password FROM users").fetchone()
    assert not PasswordHasher().check_needs_rehash(stored)
    assert accounts.log_in("Ada", GOOD)


def test_an_unknown_name_is_worked_on_as_a_known_one(accounts, monkeypatch):
    accounts.add("Ada", GOOD, "admin")
    worked = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, stored, given: worked.append(stored[:30]) or verify(self, stored, given)
    )
    for name in ("Ada", "Eve"):
        assert accounts.log_in(name, "wrong password") is None
    assert len(worked) == 2 and worked[0] == worked[1], "the same parameters"


def test_a_password_that_is_changed_during_a_login_lets_nobody_in(accounts, monkeypatch):
    accounts.add("Ada", GOOD, "admin")
    verify = PasswordHasher.verify

    def change_meanwhile(self, stored, given):
        verify(self, stored, given)
        Accounts(accounts.path).set_password("Ada", "another password")

    monkeypatch.setattr(PasswordHasher, "verify", change_meanwhile)
    assert accounts.log_in("Ada", GOOD) is None
    monkeypatch.undo()
    assert accounts.log_in("Ada", GOOD) is None
    assert accounts.log_in("Ada", "another password")


@pytest.mark.parametrize("role", ["", "Admin", "owner", "reader "])
def test_an_unknown_role_is_refused_with_those_that_exist(accounts, role):
    with pytest.raises(DataError, match="not a role") as caught:
        accounts.add("Ada", GOOD, role)
    assert "reader, reviewer, admin" in caught.value.hint


def test_the_last_admin_stays_while_there_are_others(accounts):
    accounts.add("Ada", GOOD, "admin")
    accounts.set_role("Ada", "reviewer")
    accounts.set_role("Ada", "admin")
    accounts.add("Ben", GOOD, "reviewer")
    for change in (lambda: accounts.remove("ada"), lambda: accounts.set_role("Ada", "reader")):
        with pytest.raises(DataError, match="last admin"):
            change()
    accounts.set_role("Ada", "admin")
    accounts.remove("Ben")
    accounts.add("Cy", GOOD, "admin")
    accounts.remove("Ada")
    accounts.remove("Cy")
    assert names(accounts) == []


def test_an_unknown_user_is_named_with_a_similar_one(accounts):
    for action in (
        lambda: accounts.remove("Adda"),
        lambda: accounts.set_password("Adda", GOOD),
        lambda: accounts.set_role("Adda", "admin"),
        lambda: accounts.add_token("Adda", "laptop", days=1),
        lambda: accounts.revoke("Adda"),
    ):
        with pytest.raises(DataError, match='"Adda" does not exist') as caught:
            action()
        assert "nonet users add" in caught.value.hint
    accounts.add("Ada", GOOD, "admin")
    with pytest.raises(DataError) as caught:
        accounts.remove("Adda")
    assert 'Did you mean "Ada"?' in caught.value.hint


def test_tokens_have_labels_of_their_own_and_are_revoked_by_them(accounts):
    accounts.add("Ada", GOOD, "admin")
    accounts.add("Ben", GOOD, "reader")
    tokens = [accounts.add_token(name, "laptop", days=90) for name in ("Ada", "Ben")]
    tokens.append(accounts.add_token("Ada", "Zo\u00eb's script", days=1))
    assert [accounts.of_token(token).name for token in tokens] == ["Ada", "Ben", "Ada"]
    with pytest.raises(DataError, match="already"):
        accounts.add_token("Ada", "laptop", days=1)
    with pytest.raises(DataError, match="no token"):
        accounts.revoke("Ada", "phone")
    accounts.revoke("Ada", "Zoe\u0308's script")
    assert [accounts.of_token(token) is not None for token in tokens] == [True, True, False]
    accounts.remove("Ben")
    assert accounts.of_token(tokens[1]) is None
    accounts.revoke("Ada")
    assert accounts.of_token(tokens[0]) is None


@pytest.mark.parametrize(("label", "days"), [("", 1), ("a\nb", 1), ("x", 0), ("x", -1), ("x", 10**9)])
def test_an_odd_token_is_refused(accounts, label, days):
    accounts.add("Ada", GOOD, "admin")
    with pytest.raises(DataError):
        accounts.add_token("Ada", label, days=days)


def test_one_name_added_twice_at_once_is_added_once(accounts):
    said = []

    def add():
        try:
            Accounts(accounts.path).add("Ada", GOOD, "admin")
        except DataError:
            said.append("refused")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["refused"] * 3 and names(accounts) == ["Ada"]


def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "users.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match=r"users\.sqlite"):
        Accounts(tmp_path / "users.sqlite")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Accounts(tmp_path / "file" / "users.sqlite")
