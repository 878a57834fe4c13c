from __future__ import annotations

import inspect

import agent_sessions
from agent_sessions import store
from agent_sessions.adapter import DjangoSession


def test_the_store_lists_its_verbs_in_order():
    assert store.__all__ == sorted(store.__all__)
    for name in store.__all__:
        assert inspect.getdoc(getattr(store, name)), name


def test_the_root_hands_out_the_adapter():
    assert agent_sessions.DjangoSession is DjangoSession
    assert agent_sessions.__version__
    try:
        agent_sessions.Unknown  # noqa: B018
    except AttributeError as error:
        assert "Unknown" in str(error)
    else:
        raise AssertionError


def test_public_methods_say_what_they_give():
    for name, method in inspect.getmembers(DjangoSession, callable):
        if not name.startswith("_"):
            assert inspect.getdoc(method), name
