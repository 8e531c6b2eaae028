"""Ctrl-C and SIGTERM as a request."""

import signal

import pytest

from segtune.runtime.signals import StopRequest


def test_the_first_signal_is_a_request_and_the_second_ends_the_run():
    stop = StopRequest()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_first_signal_ends_a_block_without_steps():
    stop = StopRequest()
    with stop.listening():
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            signal.raise_signal(signal.SIGINT)
        assert stop.requested


def test_an_earlier_request_ends_a_block_without_steps():
    stop = StopRequest()
    stop.requested = True
    with pytest.raises(KeyboardInterrupt), stop.at_once():
        raise AssertionError("the block began")


def test_after_such_a_block_the_first_signal_is_a_request_again():
    stop = StopRequest()
    with stop.listening():
        with stop.at_once():
            pass
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
