"""Requests that two servers could read in two ways, and others that are none."""

from dataclasses import dataclass

from tests.fakes.proxy import manifest

MARK = "smuggled-words"
"""Stands in what is sent; no answer may repeat it."""
TARGET = manifest()
INNER = f"GET {TARGET} HTTP/1.1\r\nHost: proxy.example\r\nX-Mark: {MARK}\r\n\r\n".encode()
"""What the attacker wants to be taken for a request of its own: it would reach the registry."""
CHUNKED = "Transfer-Encoding: chunked"
NOTHING = b"0\r\n\r\n"
"""A chunked body without content."""
LONG = 9000


@dataclass(frozen=True, slots=True)
class Attack:
    """What is sent, in pieces, and the statuses of the only answers; then the connection ends."""

    name: str
    pieces: tuple[bytes, ...]
    statuses: tuple[int, ...] = (400,)
    bodiless: bool = False


def request(*lines: str, start: str = f"GET {TARGET} HTTP/1.1", body: bytes = b"") -> bytes:
    """A request with a Host header."""
    head = "\r\n".join([start, "Host: proxy.example", *lines, "", ""])
    return head.encode("utf-8", "surrogateescape") + body


def _with_header(name: str, *lines: str, body: bytes = NOTHING + INNER) -> Attack:
    return Attack(name, (request(*lines, body=body),))


def _line(name: str, start: str, *statuses: int) -> Attack:
    return Attack(name, (request(start=start) + INNER,), statuses or (400,))


def _head(name: str, text: bytes, *statuses: int) -> Attack:
    return Attack(name, (text + INNER,), statuses or (400,))


def _chunks(name: str, body: bytes) -> Attack:
    return Attack(name, (request(CHUNKED, body=body + INNER),))


def _ping(*lines: str) -> bytes:
    return request(*lines, start="GET /v2/ HTTP/1.1")


TRANSFER_ENCODINGS = (
    _with_header("CL.TE", "Content-Length: 5", CHUNKED),
    _with_header("TE.CL", CHUNKED, "Content-Length: 5"),
    _with_header("CL 0.TE", "Content-Length: 0", CHUNKED),
    _with_header("TE.TE identity", CHUNKED, "Transfer-Encoding: identity"),
    _with_header("identity TE.TE", "Transfer-Encoding: identity", CHUNKED),
    _with_header("TE twice", CHUNKED, CHUNKED),
    _with_header("TE unknown", "Transfer-Encoding: xchunked"),
    _with_header("TE chunked not last", "Transfer-Encoding: chunked, identity"),
    _with_header("TE gzip, chunked", "Transfer-Encoding: gzip, chunked"),
    _with_header("TE gzip", "Transfer-Encoding: gzip"),
    _with_header("TE identity", "Transfer-Encoding: identity"),
    _with_header("TE empty", "Transfer-Encoding:"),
    _with_header("TE quoted", 'Transfer-Encoding: "chunked"'),
    _with_header("TE parameter", "Transfer-Encoding: chunked;q=1"),
    _with_header("TE tab", "Transfer-Encoding:\tchunked"),
    _with_header("TE space behind", "Transfer-Encoding: chunked "),
    _with_header("TE case", "tRANSFER-eNCODING: cHuNkEd"),
    _with_header("TE space before colon", "Transfer-Encoding : chunked"),
    _with_header("TE underscore", "Transfer_Encoding: chunked"),
    _with_header("TE space before name", " Transfer-Encoding: chunked"),
    _with_header("TE folded", "Transfer-Encoding:", " chunked"),
    _with_header("TE in a fold", "X-Mark: a", "\tTransfer-Encoding: chunked"),
    _with_header("TE NUL", "Transfer-Encoding: chunked\0"),
    _with_header("TE vertical tab", "Transfer-Encoding: \x0bchunked"),
    _with_header("TE split", "Transfer-Encoding: chu nked"),
    _with_header("TE behind a bare LF", "X-Mark: a\nTransfer-Encoding: chunked"),
    _with_header("TE behind a bare CR", "X-Mark: a\rTransfer-Encoding: chunked"),
    Attack("TE of HTTP/1.0", (request(CHUNKED, start=f"GET {TARGET} HTTP/1.0", body=NOTHING + INNER),)),
    Attack("TE of HEAD", (request(CHUNKED, start=f"HEAD {TARGET} HTTP/1.1", body=NOTHING + INNER),), bodiless=True),
    Attack("TE of POST", (request(CHUNKED, start=f"POST {TARGET} HTTP/1.1", body=NOTHING + INNER),), (405,)),
    Attack("TE of PUT never ends", (request(CHUNKED, start=f"PUT {TARGET} HTTP/1.1", body=b"5\r\nab"),), (405,)),
)
LENGTHS = (
    _with_header("CL", "Content-Length: 5"),
    _with_header("CL longer than all", "Content-Length: 100000"),
    _with_header("CL twice", "Content-Length: 5", "Content-Length: 5"),
    _with_header("CL two", "Content-Length: 0", "Content-Length: 5"),
    _with_header("CL list", "Content-Length: 5, 5"),
    _with_header("CL plus", "Content-Length: +5"),
    _with_header("CL minus", "Content-Length: -5"),
    _with_header("CL hexadecimal", "Content-Length: 0x5"),
    _with_header("CL exponent", "Content-Length: 5e0"),
    _with_header("CL fraction", "Content-Length: 5.0"),
    _with_header("CL underscore in number", "Content-Length: 1_0"),
    _with_header("CL empty", "Content-Length:"),
    _with_header("CL two numbers", "Content-Length: 5 5"),
    _with_header("CL semicolon", "Content-Length: 5;"),
    _with_header("CL 2^64", "Content-Length: 18446744073709551616"),
    _with_header("CL endless", "Content-Length: " + "9" * 40),
    _with_header("CL other digits", "Content-Length: \u0665"),
    _with_header("CL NUL", "Content-Length: 5\0"),
    _with_header("CL space before colon", "Content-Length : 5"),
    _with_header("CL leading zeros", "Content-Length: 0005"),
    _with_header("CL folded", "Content-Length:", " 5"),
    Attack("CL of HEAD", (request("Content-Length: 5", start=f"HEAD {TARGET} HTTP/1.1", body=NOTHING),), bodiless=True),
    Attack("CL of DELETE", (request("Content-Length: 5", start=f"DELETE {TARGET} HTTP/1.1", body=NOTHING),), (405,)),
    Attack("CL comes late", (request("Content-Length: 5"), NOTHING + INNER)),
    Attack("CL with Expect", (request("Content-Length: 5", "Expect: 100-continue"), NOTHING + INNER)),
)
CHUNKS = (
    _chunks("chunk", b"5\r\nhello\r\n0\r\n\r\n"),
    _chunks("chunk extension", b"5;a=b\r\nhello\r\n0\r\n\r\n"),
    _chunks("chunk extension with a bare LF", b"5;a\nhello\r\n0\r\n\r\n"),
    _chunks("chunk size with a bare LF", b"5\nhello\n0\n\n"),
    _chunks("chunk size hexadecimal", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunks("chunk size plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunks("chunk size minus", b"-1\r\n\r\n"),
    _chunks("chunk size too large", b"FFFFFFFFFFFFFFFFF\r\n"),
    _chunks("chunk size with spaces", b" 5 \r\nhello\r\n0\r\n\r\n"),
    _chunks("chunk longer than its size", b"5\r\nhello, all\r\n0\r\n\r\n"),
    _chunks("chunk trailers", b"0\r\nX-Mark: a\r\nContent-Length: 5\r\n\r\n"),
    Attack("chunk malformed later", (request(CHUNKED, body=b"5\r\n"), b"hello", b"zz\r\n" + INNER)),
)
START_LINES = (
    _line("absolute form", f"GET http://proxy.example{TARGET} HTTP/1.1"),
    _line("absolute form of another host", f"GET https://other.example{TARGET} HTTP/1.1"),
    _line("authority form", "GET proxy.example:80 HTTP/1.1"),
    _line("asterisk form", "GET * HTTP/1.1"),
    _line("CONNECT", "CONNECT other.example:443 HTTP/1.1", 405),
    Attack("HTTP/0.9", (request(start=f"GET {TARGET} HTTP/0.9"),), (505,)),
    Attack("HTTP/2.0", (request(start=f"GET {TARGET} HTTP/2.0"),), (505,)),
    _line("something behind HTTP/0.9", f"GET {TARGET} HTTP/0.9"),
    _line("HTTP/1.2", f"GET {TARGET} HTTP/1.2"),
    _line("HTTP/1.10", f"GET {TARGET} HTTP/1.10"),
    _line("HTTP/11", f"GET {TARGET} HTTP/11"),
    _line("another protocol", f"GET {TARGET} HTCPCP/1.0"),
    _line("lower-case version", f"GET {TARGET} http/1.1"),
    _line("lower-case method", f"get {TARGET} HTTP/1.1"),
    _line("unknown method", f"SMUGGLE {TARGET} HTTP/1.1"),
    _line("two targets", f"GET {TARGET} {TARGET} HTTP/1.1"),
    _line("tabs", f"GET\t{TARGET}\tHTTP/1.1"),
    _line("something behind the version", f"GET {TARGET} HTTP/1.1 {MARK}"),
    _line("NUL in the target", f"GET {TARGET}\0 HTTP/1.1"),
    _line("bare CR in the target", f"GET {TARGET}\r HTTP/1.1"),
    _line("bytes beyond ASCII in the target", f"GET {TARGET}\u00e9 HTTP/1.1"),
    _line("target too long", f"GET /v2/{'a' * LONG} HTTP/1.1", 414),
    _head("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _head("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    _head("another greeting", f"SSH-2.0-{MARK}\r\n".encode()),
    Attack("HTTP/0.9 without a version", (f"GET {TARGET}\r\n".encode(),), ()),
    Attack("nothing but line ends", (b"\r\n" * 1000,), ()),
    Attack("half a request", (f"GET {TARGET} HTTP/1.1\r\nHost: a\r\nX-Mark: ".encode(),), ()),
)
HEADERS = (
    _head("bare LF", f"GET {TARGET} HTTP/1.1\nHost: proxy.example\n\n".encode()),
    _head("bare LF at the end", f"GET {TARGET} HTTP/1.1\r\nHost: proxy.example\r\n\n".encode()),
    _head("no Host", f"GET {TARGET} HTTP/1.1\r\n\r\n".encode()),
    _with_header("Host twice", "Host: other.example", body=INNER),
    _with_header("same Host twice", "Host: proxy.example", body=INNER),
    *(
        _head(f"Host {host!r}", f"GET {TARGET} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        for host in ("a b", "a,b", "a@b", "a/b", "http://a", "a:b", "a:80:80", "[::1", "a\u00e9", "a\\b", "a?b", "a#b")
    ),
    _with_header("space before colon", "X-Mark : a", body=INNER),
    _with_header("folded", "X-Mark: a", " b", body=INNER),
    _with_header("no colon", MARK, body=INNER),
    _with_header("no name", ": a", body=INNER),
    _with_header("odd name", "X(Mark): a", body=INNER),
    _with_header("name beyond ASCII", "X-M\u00e4rk: a", body=INNER),
    _with_header("NUL in a value", "X-Mark: a\0b", body=INNER),
    _with_header("control byte in a value", "X-Mark: a\x01b", body=INNER),
    _with_header("bare CR in a value", "X-Mark: a\rb", body=INNER),
    Attack("header too long", (request(f"X-Mark: {'a' * LONG}") + INNER,), (431,)),
    Attack("header name too long", (request(f"{'a' * LONG}: a") + INNER,), (431,)),
    Attack("too many headers", (request(*["X-Mark: a"] * 1000) + INNER,), (431,)),
    Attack("Upgrade to WebSocket", (_ping("Upgrade: websocket", "Connection: Upgrade") + INNER,), (200,)),
    Attack("Upgrade to HTTP/2", (_ping("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings") + INNER,), (200,)),
    Attack("something behind Connection: close", (_ping("Connection: close") + INNER,)),
    Attack("something behind HTTP/1.0", (request(start="GET /v2/ HTTP/1.0") + INNER,)),
    Attack("pipelined behind an error", (request("X-Mark : a") + INNER + INNER,)),
    Attack("an error behind a request", (_ping() + request("X-Mark : a") + INNER,)),
)
ATTACKS = (*TRANSFER_ENCODINGS, *LENGTHS, *CHUNKS, *START_LINES, *HEADERS)
