"""Progress: a bar with rates on a terminal, nothing or plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


def bars() -> Progress:
    """Bars on standard error; silent where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    console = Console(stderr=True)
    return Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()
    )


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """One bar over so many bytes; gives a function that advances it."""
    with bars() as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.update(task, advance=amount)
