"""Overlapping work: decoding runs ahead of the model and writing behind it, with bounded queues."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """Iterate in a thread of its own, at most `depth` items ahead; raise its error here.

    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    messages: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    closed = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not closed.is_set():
            try:
                messages.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = messages.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        closed.set()
        thread.join()


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch compute with this number of threads, at least one, while the block runs."""
    previous = torch.get_num_threads()
    torch.set_num_threads(max(1, number))
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def mapped(
    work: Callable[[T], R], items: Iterable[T], workers: int = 2, depth: int = 6
) -> Iterator[R]:
    """Map over threads, in order, at most `depth` items ahead of the consumer.

    >>> list(mapped(lambda n: n * n, range(4)))
    [0, 1, 4, 9]
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Behind(Generic[R]):
    """Finish items in threads while the caller continues.

    `on_result` is called with each result, in order, in the caller's thread.

    >>> seen = []
    >>> with Behind(seen.append) as behind:
    ...     for n in range(3):
    ...         behind.submit(str, n)
    >>> seen
    ['0', '1', '2']
    """

    def __init__(self, on_result: Callable[[R], None], workers: int = 1, depth: int = 4) -> None:
        self.on_result, self.depth = on_result, depth
        self._pool = ThreadPoolExecutor(workers)
        self._waiting: deque[Future[R]] = deque()

    def submit(self, work: Callable[..., R], *arguments: Any) -> None:
        """Start the work; wait if `depth` items are in progress."""
        self._waiting.append(self._pool.submit(work, *arguments))
        while self._waiting and (len(self._waiting) > self.depth or self._waiting[0].done()):
            self.on_result(self._waiting.popleft().result())

    def __enter__(self) -> "Behind[R]":
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the work in progress; `on_result` gets its results even after an error."""
        try:
            while self._waiting:
                self.on_result(self._waiting.popleft().result())
        finally:
            self._pool.shutdown(cancel_futures=True)
