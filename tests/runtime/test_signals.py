"""Ctrl-C and SIGTERM as a request."""

import signal

import pytest

from segtune.runtime.signals import StopRequest


def test_the_first_signal_is_a_request_and_the_second_an_end():
    stop = StopRequest()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_where_there_is_no_step_to_finish_the_first_signal_is_an_end():
    stop = StopRequest()
    with stop.listening():
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            signal.raise_signal(signal.SIGINT)
        assert stop.requested


def test_so_is_one_from_before():
    stop = StopRequest()
    stop.requested = True
    with pytest.raises(KeyboardInterrupt), stop.at_once():
        raise AssertionError("begun all the same")


def test_afterwards_it_is_a_request_again():
    stop = StopRequest()
    with stop.listening():
        with stop.at_once():
            pass
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
