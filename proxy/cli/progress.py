"""Progress bars on a terminal, and lines that no bar overwrites and nothing wraps."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from proxy.config.base import readable_size


class SizesColumn(ProgressColumn):
    """Bytes that are done, and all of them."""

    def render(self, task: Task) -> Text:
        """The sizes; only the first while the other is unknown."""
        done = readable_size(task.completed)
        return Text(done if task.total is None else f"{done} / {readable_size(task.total)}")


class RateColumn(ProgressColumn):
    """Bytes per second, in the units of the sizes."""

    def render(self, task: Task) -> Text:
        """The rate; nothing while it is unknown."""
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{readable_size(rate)}/s")


def bars() -> Progress:
    """Progress bars on standard error; none where that is not a terminal."""
    description = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    return Progress(
        description,
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        SizesColumn(),
        RateColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,
    )


def print_line(progress: Progress, line: str, *, err: bool = False) -> None:
    """Print a line as it is, to standard output or standard error; above the bars where both are on a terminal."""
    if not progress.disable and (err or sys.stdout.isatty()):
        progress.console.print(Text(line), soft_wrap=True)
    else:
        click.echo(line, err=err)


def finish(progress: Progress, task: TaskID) -> None:
    """Show the bar once more, full, and remove it."""
    done = next(item.completed for item in progress.tasks if item.id == task)
    progress.update(task, total=done or 1, completed=done or 1)
    progress.refresh()
    progress.remove_task(task)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """One progress bar of `total` bytes; yields a function that advances it."""
    with bars() as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.update(task, advance=amount)
