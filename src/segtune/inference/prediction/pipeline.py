"""Work that overlaps: decoding runs ahead of the model and writing behind it, each by a bounded number of items."""

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
    """The items, made in a thread of their own that is at most `depth` items ahead; its error is raised here.

    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    leave = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not leave.is_set():
            try:
                made.put((kind, value), timeout=0.1)
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
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        leave.set()
        thread.join()


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Has torch compute with so many threads, at least one, for as long as this lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, number))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mapped(
    work: Callable[[T], R], items: Iterable[T], workers: int = 2, depth: int = 6
) -> Iterator[R]:
    """`map` over threads, in order, at most `depth` items ahead of whoever takes the results.

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
    """Threads that finish items after the caller has gone on; `done` is called in order, in the caller's thread.

    >>> seen = []
    >>> with Behind(seen.append) as behind:
    ...     for n in range(3):
    ...         behind.submit(str, n)
    >>> seen
    ['0', '1', '2']
    """

    def __init__(self, done: Callable[[R], None], workers: int = 1, depth: int = 4) -> None:
        self.done, self.depth = done, depth
        self._pool = ThreadPoolExecutor(workers)
        self._waiting: deque[Future[R]] = deque()

    def submit(self, work: Callable[..., R], *arguments: Any) -> None:
        """Hands over work; waits where `depth` items are under way already."""
        self._waiting.append(self._pool.submit(work, *arguments))
        while self._waiting and (len(self._waiting) > self.depth or self._waiting[0].done()):
            self.done(self._waiting.popleft().result())

    def __enter__(self) -> "Behind[R]":
        return self

    def __exit__(self, *error: object) -> None:
        """Waits for what is under way. After an error of the caller's, what was done is still told."""
        try:
            while self._waiting:
                self.done(self._waiting.popleft().result())
        finally:
            self._pool.shutdown(cancel_futures=True)
