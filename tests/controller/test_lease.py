"""Who acts for the cluster: never two, whatever the schedule; whoever dies is followed within a term."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podway.controller import lease
from podway.controller.lease import Found, State

TERM = 10.0
NAMES = ("a", "b", "c")


class Contender:
    """One agent, whose clock has nothing to do with another's. What it began goes on step by step."""

    def __init__(self, name: str, offset: float) -> None:
        self.name, self.offset = name, offset
        self.state = State()
        self.base: str | None = None  # the version that its pending write rests on; "" = a create
        self.began = 0.0
        self.taken: str | None = None

    def read(self, store: list[Found], now: float) -> None:
        found = store[-1] if store else None
        step = lease.read(self.state, self.name, found, TERM, now + self.offset)
        self.state, self.began = step.state, now + self.offset
        self.base = (found.version if found else "") if step.wish else None

    def commit(self, store: list[Found]) -> None:
        """The write reaches the store, which compares."""
        if self.base is not None and self.taken is None and self.base == (store[-1].version if store else ""):
            self.taken = str(len(store) + 1)
            store.append(Found(self.name, self.taken))

    def answer(self) -> None:
        if self.base is None:
            return
        if self.taken is None:
            self.state = lease.refused(self.state)
        else:
            self.state = lease.wrote(self.state, self.taken, self.began, TERM)
        self.base = self.taken = None

    def acts(self, now: float) -> bool:
        return self.state.acts(now + self.offset)


STEPS = st.tuples(
    st.sampled_from(range(len(NAMES))),
    st.sampled_from(("read", "commit", "answer")),
    st.floats(0, TERM / 2),
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.lists(STEPS, max_size=80))
def test_two_never_act_at_once(offsets: list[float], steps: list[tuple[int, str, float]]) -> None:
    contenders = [Contender(name, round(offset)) for name, offset in zip(NAMES, offsets, strict=True)]
    store: list[Found] = []
    now = 0.0
    for who, what, passed in steps:
        now += passed
        one = contenders[who]
        if what == "read":
            if one.base is None:
                one.read(store, now)
        elif what == "commit":
            one.commit(store)
        else:
            one.answer()
        acting = [c.name for c in contenders if c.acts(now)]
        assert len(acting) <= 1, acting


def turn(one: Contender, store: list[Found], now: float) -> float:
    """A whole turn without delay; when the next is due."""
    one.read(store, now)
    found = store[-1] if store else None
    due = lease.read(one.state, one.name, found, TERM, now + one.offset).deadline - one.offset
    one.commit(store)
    one.answer()
    return due


def test_one_that_dies_is_followed_within_a_term_and_nothing_flaps() -> None:
    a, b = Contender("a", 0), Contender("b", 5000)
    store: list[Found] = []
    due = {a: turn(a, store, 0.0), b: turn(b, store, 0.0)}
    died = 47.0
    now = 0.0
    holder, changes = "a", []
    while now < died + TERM:
        who = min(due, key=lambda one: due[one])
        now = due[who]
        if who is a and now >= died:
            due[a] = float("inf")
            continue
        due[who] = turn(who, store, now)
        if who.acts(now) and who.name != holder:
            holder = who.name
            changes.append(now)
    assert len(changes) == 1 and died < changes[0] <= died + TERM


def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    step = lease.read(State(seen="7", since=1.0), "b", Found("", "8"), TERM, 1.1)
    assert step.wish == "write"
    assert lease.read(step.state, "b", Found("a", "9"), TERM, 1.2).wish == ""
