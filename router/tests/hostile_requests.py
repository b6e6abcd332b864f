"""What attackers send, by what it plays on: name → bytes.

Each is answered with an error, the connection closed, and nothing of it forwarded.
"""

from __future__ import annotations

HIDDEN = b"GET /fn/hello/hidden HTTP/1.1\r\nHost: hid\r\n\r\n"
"""The request that an attacker wants a pod to see, or another client to be answered for: 44 bytes."""
LINE = b"GET /fn/hello/open HTTP/1.1\r\n"
HOST = b"Host: a.example\r\n"


def get(*lines: bytes, line: bytes = LINE, host: bytes = HOST, body: bytes = b"") -> bytes:
    """A request with more header lines, each without its CRLF."""
    return line + host + b"".join(one + b"\r\n" for one in lines) + b"\r\n" + body


def post(*lines: bytes, body: bytes = HIDDEN) -> bytes:
    return get(*lines, line=LINE.replace(b"GET", b"POST"), body=body)


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A chunked request whose body is these bytes."""
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def length(value: bytes, *, body: bytes = HIDDEN) -> bytes:
    return post(b"Content-Length: " + value, body=body)


def coding(value: bytes) -> bytes:
    """A Transfer-Encoding, before a body that chunked and unchunked end elsewhere."""
    return post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n" + HIDDEN)


def line(raw: bytes) -> bytes:
    """A request line, without its CRLF."""
    return get(line=raw + b"\r\n", body=HIDDEN)


CHUNK = b"Transfer-Encoding: chunked"
LENGTHS = {
    "two lengths": post(b"Content-Length: 0", b"Content-Length: %d" % len(HIDDEN)),
    "two lengths, the longer first": post(b"Content-Length: 44", b"Content-Length: 0"),
    "the same length twice": post(b"Content-Length: 5", b"Content-Length: 5"),
    "two spellings of the name": post(b"content-length: 5", b"CONTENT-LENGTH: 0"),
    "a list of equal lengths": length(b"5, 5"),
    "a list of lengths": length(b"0,44"),
    "a plus": length(b"+5"),
    "a minus": length(b"-5"),
    "minus zero": length(b"-0"),
    "hexadecimal": length(b"0x5"),
    "an exponent": length(b"5e0"),
    "a fraction": length(b"5.0"),
    "an underscore inside": length(b"4_4"),
    "quotes": length(b'"5"'),
    "a parameter": length(b"5;q=1"),
    "nothing": length(b""),
    "blanks only": length(b" \t "),
    "a blank inside": length(b"4 4"),
    "a vertical tab before": length(b"\x0b5"),
    "a form feed behind": length(b"5\x0c"),
    "a NUL behind": length(b"5\0"),
    "digits beyond ASCII": length("５".encode()),
    "19 digits": length(b"1" * 19),
    "2**64": length(b"18446744073709551616"),
    "2**64 + 5": length(b"18446744073709551621"),
    "a thousand zeros": length(b"0" * 1000 + b"5"),
    "a blank before the colon": post(b"Content-Length : 5"),
    "a tab before the colon": post(b"Content-Length\t: 5"),
    "a NUL in the name": post(b"Content-\0Length: 5"),
    "a vertical tab in the name": post(b"Content-Length\x0b: 5"),
    "a folded value": post(b"Content-Length:", b" 5"),
    "a value folded in the middle": post(b"Content-Length: 4", b"\t4"),
    "in a GET, negative": get(b"Content-Length: -1", body=HIDDEN),
}
CODINGS = {
    "a length, then chunked": post(b"Content-Length: 5", CHUNK, body=b"0\r\n\r\n" + HIDDEN),
    "chunked, then a length": post(CHUNK, b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN),
    "chunked, then length 0": post(CHUNK, b"Content-Length: 0", body=b"0\r\n\r\n" + HIDDEN),
    "a length beside identity": post(b"Content-Length: 5", b"Transfer-Encoding: identity"),
    "chunked twice": post(CHUNK, CHUNK, body=b"0\r\n\r\n" + HIDDEN),
    "chunked, then identity": post(CHUNK, b"Transfer-Encoding: identity"),
    "identity, then chunked": post(b"Transfer-Encoding: identity", CHUNK),
    "two spellings of the name": post(CHUNK, b"transfer-ENCODING: x"),
    "chunked in a list": coding(b"chunked, chunked"),
    "chunked not last": coding(b"chunked, gzip"),
    "gzip below chunked": coding(b"gzip, chunked"),
    "a comma behind": coding(b"chunked,"),
    "a comma before": coding(b", chunked"),
    "identity": coding(b"identity"),
    "identity in a list": coding(b"identity, chunked"),
    "a letter too many": coding(b"xchunked"),
    "a letter behind": coding(b"chunkedx"),
    "cut off": coding(b"chunke"),
    "a Kelvin sign for k": coding("chun\u212aed".encode()),
    "quotes": coding(b'"chunked"'),
    "single quotes": coding(b"'chunked'"),
    "a parameter": coding(b"chunked;q=1"),
    "brackets": coding(b"[chunked]"),
    "nothing": coding(b""),
    "a vertical tab before": coding(b"\x0bchunked"),
    "a form feed behind": coding(b"chunked\x0c"),
    "a tab behind": coding(b"chunked\t"),
    "a NUL behind": coding(b"chunked\0"),
    "a no-break space": coding(b"\xa0chunked"),
    "a bare CR before": coding(b"\rchunked"),
    "a bare CR behind": coding(b"chunked\r"),
    "a bare LF before": coding(b"\nchunked"),
    "a folded value": post(b"Transfer-Encoding:", b" chunked"),
    "folded behind": post(CHUNK, b" , identity"),
    "behind a folded line": post(b"X-A: b", b"\tTransfer-Encoding: chunked"),
    "a blank before the colon": post(b"Transfer-Encoding : chunked"),
    "a tab before the colon": post(b"Transfer-Encoding\t: chunked"),
    "a blank before the name": get(b"X: y", b" Transfer-Encoding: chunked"),
    "a blank in the name": post(b"Transfer Encoding: chunked"),
    "a NUL before the colon": post(b"Transfer-Encoding\0: chunked"),
    "an escape before the colon": post(b"Transfer-Encoding\x1b: chunked"),
    "a byte beyond ASCII before the name": post(b"\xffTransfer-Encoding: chunked"),
    "in HTTP/1.0": coding(b"chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "in HTTP/1.0 with a length": post(CHUNK, b"Content-Length: 5").replace(b"/1.1", b"/1.0", 1),
}
LINES = {
    "a folded header": get(b"X-A: b", b" c: d"),
    "a header folded with a tab": get(b"X-A: b", b"\tc: d"),
    "a fold before the first header": get(line=LINE + b" X: y\r\n"),
    "a fold behind the host": get(b" evil.example"),
    "an empty folded line": get(b"X-A: b", b" "),
    "a fold right behind the colon": get(b"X-A:", b" b"),
    "a bare LF": get(b"X-A: b\nX-B: c"),
    "a bare LF that hides a length": get(b"X-A: b\nContent-Length: 44", body=HIDDEN),
    "a bare CR": get(b"X-A: b\rX-B: c"),
    "a bare CR that hides a coding": get(b"X-A: b\rTransfer-Encoding: chunked"),
    "LF CR": get(b"X-A: b\n\rX-B: c"),
    "CR CR LF": get(b"X-A: b\r"),
    "LF behind the request line": get(line=LINE.replace(b"\r\n", b"\n")),
    "CR behind the request line": get(line=LINE.replace(b"\r\n", b"\r")),
    "LF everywhere": get(b"X-A: b").replace(b"\r\n", b"\n"),
    "CR everywhere": get(b"X-A: b").replace(b"\r\n", b"\r"),
    "LF LF in the middle": get(b"X-A: b\n\nGET /fn/hello/hidden HTTP/1.1"),
    "CR LF LF": get(b"X-A: b")[:-2] + b"\n" + HIDDEN,
    "LF CR LF": get(b"X-A: b")[:-4] + b"\n\r\n" + HIDDEN,
    "CR CR LF as the empty line": get(b"X-A: b")[:-2] + b"\r\r\n" + HIDDEN,
    "a NUL in a value": get(b"X-A: a\0b"),
    "a NUL alone": get(b"\0"),
    "a NUL in a name": get(b"X\0A: b"),
    "a control character in a value": get(b"X-A: a\x01b"),
    "a backspace in a value": get(b"X-A: a\x08b"),
    "DEL in a value": get(b"X-A: a\x7fb"),
    "DEL in a name": get(b"X\x7f: b"),
    "a bracket in a name": get(b"X[A]: b"),
    "a name beyond ASCII": get("Xé: b".encode()),
    "a blank in a name": get(b"X A: b"),
    "a blank before a colon": get(b"X-A : b"),
    "no name": get(b": b"),
    "a blank for a name": get(b" : b"),
    "no colon": get(b"X-A"),
    "no colon in the last line": get(b"X-A: b", b"GET /fn/hello/hidden HTTP/1.1"),
    "an empty line of LF first": b"\n" + get(),
    "a lone CR first": b"\r" + get(),
    "a blank first": b" " + get(),
    "a NUL first": b"\0" + get(),
    "a mark of UTF-8 first": b"\xef\xbb\xbf" + get(),
}
REQUEST_LINES = {
    "two blanks behind the method": line(b"GET  /fn/hello HTTP/1.1"),
    "two blanks before the version": line(b"GET /fn/hello  HTTP/1.1"),
    "a tab behind the method": line(b"GET\t/fn/hello HTTP/1.1"),
    "a tab before the version": line(b"GET /fn/hello\tHTTP/1.1"),
    "a vertical tab": line(b"GET\x0b/fn/hello HTTP/1.1"),
    "a form feed": line(b"GET /fn/hello\x0cHTTP/1.1"),
    "a bare CR as a blank": line(b"GET /fn/hello\rHTTP/1.1"),
    "a blank behind the version": line(b"GET /fn/hello HTTP/1.1 "),
    "a tab behind the version": line(b"GET /fn/hello HTTP/1.1\t"),
    "a word behind the version": line(b"GET /fn/hello HTTP/1.1 x"),
    "a blank in the target": line(b"GET /fn/hello /x HTTP/1.1"),
    "two versions": line(b"GET /fn/hello HTTP/1.1 HTTP/1.0"),
    "a header in the target": line(b"GET /fn/hello HTTP/1.1\rX: y HTTP/1.1"),
    "a NUL in the target": line(b"GET /fn/hel\0lo HTTP/1.1"),
    "a NUL in the method": line(b"GE\0T /fn/hello HTTP/1.1"),
    "a control character in the target": line(b"GET /fn/hello/\x01 HTTP/1.1"),
    "DEL in the target": line(b"GET /fn/hello/\x7f HTTP/1.1"),
    "high bytes in the target": line("GET /fn/hello/é HTTP/1.1".encode()),
    "a high byte in the query": line(b"GET /fn/hello?\xff HTTP/1.1"),
    "a fragment": line(b"GET /fn/hello#x HTTP/1.1"),
    "a fragment in an absolute target": line(b"GET http://a/fn/hello#x HTTP/1.1"),
    "no version": b"GET /fn/hello\r\n\r\n" + HIDDEN,
    "no version, but headers": line(b"GET /fn/hello"),
    "no target": line(b"GET HTTP/1.1"),
    "an empty target": line(b"GET  HTTP/1.1"),
    "the version alone": line(b"HTTP/1.1"),
    "an answer": line(b"HTTP/1.1 200 OK"),
    "HTTP/0.9": line(b"GET /fn/hello HTTP/0.9"),
    "HTTP/1.2": line(b"GET /fn/hello HTTP/1.2"),
    "HTTP/1.10": line(b"GET /fn/hello HTTP/1.10"),
    "HTTP/1.01": line(b"GET /fn/hello HTTP/1.01"),
    "HTTP/01.1": line(b"GET /fn/hello HTTP/01.1"),
    "HTTP/1": line(b"GET /fn/hello HTTP/1"),
    "HTTP/1,1": line(b"GET /fn/hello HTTP/1,1"),
    "HTTP/2.0": line(b"GET /fn/hello HTTP/2.0"),
    "HTTP/+1.1": line(b"GET /fn/hello HTTP/+1.1"),
    "HTTP/2 in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "small letters in HTTP": line(b"GET /fn/hello http/1.1"),
    "one small letter in HTTP": line(b"GET /fn/hello HTTp/1.1"),
    "another protocol": line(b"GET /fn/hello RTSP/1.0"),
    "another protocol at 1.1": line(b"GET /fn/hello ICE/1.1"),
    "a method in small letters": line(b"get /fn/hello HTTP/1.1"),
    "a method in mixed letters": line(b"Get /fn/hello HTTP/1.1"),
    "an unknown method": line(b"GETX /fn/hello HTTP/1.1"),
    "an unknown method that is a token": line(b"X!#$ /fn/hello HTTP/1.1"),
    "a method in quotes": line(b'"GET" /fn/hello HTTP/1.1'),
    "a target without a slash": line(b"GET fn/hello HTTP/1.1"),
    "a target that is a host": line(b"GET a.example:80 HTTP/1.1"),
    "a target that is a query": line(b"GET ?x HTTP/1.1"),
    "a backslash for a slash": line(b"GET \\fn\\hello HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + HIDDEN,
    "PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(),
}
HOSTS = {
    "none": get(host=b""),
    "two": get(b"Host: b.example"),
    "twice the same": get(b"Host: a.example"),
    "two spellings of the name": get(b"hOST: b.example"),
    "a list": get(host=b"Host: a, b\r\n"),
    "a path": get(host=b"Host: a/b\r\n"),
    "a query": get(host=b"Host: a?b\r\n"),
    "user information": get(host=b"Host: a@b\r\n"),
    "a blank": get(host=b"Host: a b\r\n"),
    "a tab": get(host=b"Host: a\tb\r\n"),
    "a port that is a word": get(host=b"Host: a:http\r\n"),
    "a port too long": get(host=b"Host: a:123456\r\n"),
    "two ports": get(host=b"Host: a:80:80\r\n"),
    "a negative port": get(host=b"Host: a:-1\r\n"),
    "half an IPv6 address": get(host=b"Host: [::1\r\n"),
    "an IPv6 address without brackets": get(host=b"Host: ::1\r\n"),
    "letters beyond ASCII": get(host="Host: é\r\n".encode()),
    "markup": get(host=b"Host: <b>\r\n"),
    "quotes": get(host=b'Host: "a"\r\n'),
    "a backslash": get(host=b"Host: a\\b\r\n"),
    "a blank before the colon": get(host=b"Host : a\r\n"),
    "a blank before the name": get(host=b" Host: a\r\n"),
    "folded": get(host=b"Host:\r\n a\r\n"),
    "bad beside an absolute target": get(
        line=b"GET http://a/fn/hello HTTP/1.1\r\n", host=b"Host: a/b\r\n"
    ),
    "none beside an absolute target": get(line=b"GET http://a/fn/hello HTTP/1.1\r\n", host=b""),
    "two beside an absolute target": get(
        b"Host: b", line=b"GET http://a/fn/hello HTTP/1.1\r\n", host=b"Host: a\r\n"
    ),
    "an absolute target without one": line(b"GET http:///fn/hello HTTP/1.1"),
    "an absolute target with a port only": line(b"GET http://:80/fn/hello HTTP/1.1"),
    "an absolute target with a user": line(b"GET http://u@h/fn/hello HTTP/1.1"),
    "an absolute target with a backslash": line(b"GET http://h\\@a/fn/hello HTTP/1.1"),
    "an absolute target of another scheme": line(b"GET ftp://h/fn/hello HTTP/1.1"),
    "an absolute target that is no address": line(b"GET http:/fn/hello HTTP/1.1"),
}
CHUNKS = {
    "a size that is no number": chunked(b"g\r\n"),
    "a negative size": chunked(b"-1\r\na\r\n0\r\n\r\n"),
    "minus zero": chunked(b"-0\r\n\r\n" + HIDDEN),
    "a plus": chunked(b"+1\r\na\r\n0\r\n\r\n"),
    "0x": chunked(b"0x1\r\na\r\n0\r\n\r\n"),
    "0X as the last": chunked(b"1\r\na\r\n0X\r\n\r\n" + HIDDEN),
    "an underscore": chunked(b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"),
    "quotes": chunked(b'"1"\r\na\r\n0\r\n\r\n'),
    "a blank before": chunked(b" 1\r\na\r\n0\r\n\r\n"),
    "a blank behind": chunked(b"1 \r\na\r\n0\r\n\r\n"),
    "a tab behind": chunked(b"0\t\r\n\r\n" + HIDDEN),
    "a blank inside": chunked(b"1 0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"),
    "a list of sizes": chunked(b"1,1\r\na\r\n0\r\n\r\n"),
    "no size": chunked(b"\r\n" + HIDDEN),
    "no size, an extension": chunked(b";x\r\n\r\n" + HIDDEN),
    "an empty line before the size": chunked(b"\r\n1\r\na\r\n0\r\n\r\n"),
    "16 digits": chunked(b"8000000000000000\r\na\r\n0\r\n\r\n"),
    "17 digits": chunked(b"10000000000000001\r\na\r\n0\r\n\r\n"),
    "2**64": chunked(b"10000000000000000\r\n" + HIDDEN),
    "zeros without an end": chunked(b"0" * 17 + b"1\r\na\r\n0\r\n\r\n"),
    "a NUL behind": chunked(b"0\0\r\n\r\n" + HIDDEN),
    "a letter beyond ASCII": chunked("１\r\na\r\n0\r\n\r\n".encode()),
    "LF behind the size": chunked(b"1\na\r\n0\r\n\r\n"),
    "CR behind the size": chunked(b"1\ra\r\n0\r\n\r\n"),
    "CR CR LF behind the size": chunked(b"1\r\r\na\r\n0\r\n\r\n"),
    "LF CR LF behind the size": chunked(b"0\n\r\n" + HIDDEN),
    "LF behind the data": chunked(b"1\r\na\n0\r\n\r\n"),
    "CR behind the data": chunked(b"1\r\na\r0\r\n\r\n"),
    "CR CR LF behind the data": chunked(b"1\r\na\r\r\n0\r\n\r\n"),
    "LF CR behind the data": chunked(b"1\r\na\n\r0\r\n\r\n"),
    "any two bytes behind the data": chunked(b"1\r\naXX0\r\n\r\n" + HIDDEN),
    "nothing behind the data": chunked(b"1\r\na0\r\n\r\n"),
    "more data than its size": chunked(b"1\r\nabc\r\n0\r\n\r\n"),
    "less data than its size": chunked(b"5\r\nabc\r\n0\r\n\r\n" + HIDDEN),
    "LF only": chunked(b"1\na\n0\n\n" + HIDDEN),
    "LF LF at the end": chunked(b"1\r\na\r\n0\n\n" + HIDDEN),
    "CR CR at the end": chunked(b"1\r\na\r\n0\r\n\r" + HIDDEN),
    "LF in an extension": chunked(b"2;\nxx\r\n0\r\n\r\n" + HIDDEN),
    "LF behind an extension": chunked(b"1;a=b\na\r\n0\r\n\r\n"),
    "CR in an extension": chunked(b"1;a\rb\r\na\r\n0\r\n\r\n"),
    "CR behind an extension": chunked(b"0;a\r\r\n\r\n" + HIDDEN),
    "CRLF in a quoted extension": chunked(b'1;a="\r\n"\r\na\r\n0\r\n\r\n'),
    "a NUL in an extension": chunked(b"1;a\0b\r\na\r\n0\r\n\r\n"),
    "a control character in an extension": chunked(b"1;\x01\r\na\r\n0\r\n\r\n"),
    "DEL in an extension": chunked(b"1;a\x7f\r\na\r\n0\r\n\r\n"),
    "an extension without a semicolon": chunked(b"1 a=b\r\na\r\n0\r\n\r\n"),
    "an extension without a name": chunked(b"1;\r\na\r\n0\r\n\r\n"),
    "an extension without a value": chunked(b"1;a=\r\na\r\n0\r\n\r\n"),
    "an extension's quotes without an end": chunked(b'1;a="b\r\na\r\n0\r\n\r\n'),
    "an extension behind quotes": chunked(b'1;a="b"c\r\na\r\n0\r\n\r\n'),
    "a blank behind an extension": chunked(b"1;a \r\na\r\n0\r\n\r\n"),
    "an extension behind a comma": chunked(b"1,a=b\r\na\r\n0\r\n\r\n"),
    "a flood of extensions": chunked(b"1" + b";a=b" * 100 + b"\r\na\r\n0\r\n\r\n"),
    "an extension without an end": chunked(b"1;" + b"a" * 5000),
    "an octet stream": chunked(HIDDEN),
}
TRAILERS = {
    "a folded one": chunked(b"0\r\nX: y\r\n z\r\n\r\n"),
    "a fold before the first": chunked(b"0\r\n X: y\r\n\r\n"),
    "LF behind": chunked(b"0\r\nX: y\n\r\n"),
    "LF inside": chunked(b"0\r\nX: y\nContent-Length: 3\r\n\r\n"),
    "CR inside": chunked(b"0\r\nX: y\rZ: a\r\n\r\n"),
    "LF as the empty line": chunked(b"0\r\nX: y\r\n\n" + HIDDEN),
    "CR CR LF as the empty line": chunked(b"0\r\nX: y\r\n\r\r\n" + HIDDEN),
    "a NUL in the value": chunked(b"0\r\nX: y\0\r\n\r\n"),
    "a NUL in the name": chunked(b"0\r\nX\0: y\r\n\r\n"),
    "a blank before the colon": chunked(b"0\r\nX : y\r\n\r\n"),
    "no colon": chunked(b"0\r\nX\r\n\r\n"),
    "no name": chunked(b"0\r\n: y\r\n\r\n"),
    "a request line": chunked(b"0\r\n" + HIDDEN),
    "too many": chunked(b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n"),
    "too long": chunked(b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
}
EXPECTATIONS = {
    "an unknown one": post(b"Expect: payment", b"Content-Length: 44"),
    "obfuscated": post(b"Expect: y 100-continue", b"Content-Length: 44"),
    "obfuscated with a fold": post(b"Expect: 100-continue", b" x", b"Content-Length: 44"),
    "a list": post(b"Expect: 100-continue, x", b"Content-Length: 44"),
    "twice": post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 44"),
    "nothing": post(b"Expect:", b"Content-Length: 44"),
    "in quotes": post(b'Expect: "100-continue"', b"Content-Length: 44"),
    "200-ok": get(b"Expect: 200-ok"),
    "in a GET with a hidden body": get(
        b"Expect: x 100-continue", b"Content-Length: 44", body=HIDDEN
    ),
}
LIMITS = {
    "a head too large": get(b"X-A: " + b"b" * 20_000),
    "a target too long": line(b"GET /fn/hello/" + b"a" * 20_000 + b" HTTP/1.1"),
    "a name too long": get(b"X" * 20_000 + b": b"),
    "too many headers": get(*[b"X-A: b"] * 101),
    "a body too large": length(b"999999999999"),
    "a chunk too large": chunked(b"1001\r\n" + b"a" * 0x1001 + b"\r\n0\r\n\r\n"),
    "chunks too large together": chunked(
        b"801\r\n%b\r\n801\r\n%b\r\n0\r\n\r\n" % (b"a" * 0x801, b"a" * 0x801)
    ),
    "a chunk too large, of which little has come": chunked(b"7fffffffffffff\r\n" + HIDDEN),
}
ANSWERED_HERE = {
    "CONNECT": line(b"CONNECT a.example:443 HTTP/1.1"),
    "CONNECT to a path": line(b"CONNECT /fn/hello HTTP/1.1"),
    "a body for nobody": length(b"44").replace(b"/fn/hello/open", b"/nowhere"),
    "chunks for nobody": chunked(b"0\r\n\r\n").replace(b"/fn/hello/open", b"/nowhere"),
    "a body for the root": get(
        b"Content-Length: 44", line=b"GET / HTTP/1.1\r\n", body=HIDDEN
    ),
    "a body for an encoded dot": length(b"44").replace(b"/fn/hello/open", b"/fn/%2e%2e/hello"),
}  # fmt: skip

REFUSED: dict[str, dict[str, bytes]] = {
    "lengths": LENGTHS,
    "codings": CODINGS,
    "lines": LINES,
    "request lines": REQUEST_LINES,
    "hosts": HOSTS,
    "chunks": CHUNKS,
    "trailers": TRAILERS,
    "expectations": EXPECTATIONS,
    "limits": LIMITS,
    "answered here": ANSWERED_HERE,
}
STATUSES = {"expectations": {400, 417}, "limits": {413, 431}, "answered here": {404, 405, 200}}
"""By group; 400 in the others."""
