"""A registry that counts requests as Docker Hub counts pulls, and reports what is left."""

from proxy.testbed.answer import Answer
from proxy.testbed.record import Call
from tests.fakes.changes import Change, Reply

WINDOW = 21600


class Metered(Change):
    """Reports the limit in each response, and answers 429 once nothing is left; GET is counted, HEAD on demand."""

    def __init__(self, limit: int, remaining: int, *, counts_head: bool = False, window: int = WINDOW) -> None:
        self.limit = limit
        self.remaining = remaining
        self.counts_head = counts_head
        self.window = window

    def apply(self, call: Call, answer: Answer) -> Answer:
        if call.method == "GET" or self.counts_head:
            if not self.remaining:
                return self._reported(Reply(429).apply(call, answer))
            self.remaining -= 1
        return self._reported(answer)

    def _reported(self, answer: Answer) -> Answer:
        numbers = {"ratelimit-limit": self.limit, "ratelimit-remaining": self.remaining}
        headers = [(name, f"{number};w={self.window}") for name, number in numbers.items()]
        return answer.having(*headers, ("docker-ratelimit-source", "192.0.2.7"))
