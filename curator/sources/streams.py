"""Files as bytes: opening, decompression, byte-order marks, encodings and lines.

A line that is too long or cannot be decoded is a `BadRow`, and the next line is read as if nothing
had happened.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curator.errors import ConfigError, SourceError
from curator.sources.base import BadRow, excerpt

SAMPLE = 1024 * 1024
"""Bytes at the start of a file that show whether its encoding is the one we were told."""
CHUNK = 256 * 1024
WRONG_SHARE = 0.02
"""Share of undecodable lines in the sample from which on the encoding, not the rows, is wrong."""
NUL_SHARE = 0.2
"""Share of NUL bytes in the sample above which it is UTF-16 or UTF-32, or no text at all."""
BOMS = (  # the longer ones first: UTF-16's is a prefix of UTF-32's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class ByteStream(Protocol):
    """What readers need of an open file."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


def _gzip(path: Path) -> ByteStream:
    return gzip.GzipFile(path, "rb")


def _bz2(path: Path) -> ByteStream:
    return bz2.BZ2File(path, "rb")


def _xz(path: Path) -> ByteStream:
    return lzma.LZMAFile(path, "rb")


COMPRESSED: dict[str, Callable[[Path], ByteStream]] = {".gz": _gzip, ".bz2": _bz2, ".xz": _xz}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a source, or stdin (`path` is None). `name` is how messages call it."""

    name: str
    path: Path | None

    @contextmanager
    def opened(self) -> Iterator[ByteStream]:
        """The bytes, decompressed; whatever goes wrong while reading them becomes a SourceError."""
        with self.guarded():
            if self.path is None:
                yield sys.stdin.buffer
                return
            opener = COMPRESSED.get(self.path.suffix.lower())
            stream: ByteStream = opener(self.path) if opener else self.path.open("rb")
            try:
                yield stream
            finally:
                stream.close()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Map the errors of the operating system and of the decompressors."""
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise SourceError(
                f"{self.name} is damaged: {error}", hint="the compressed file is cut off or not what its name says"
            ) from error
        except PermissionError as error:
            raise SourceError(f"{self.name} may not be read", hint="check the file's permissions") from error
        except FileNotFoundError as error:
            raise SourceError(f"{self.name} does not exist", hint="check the path") from error
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read: {error.strerror or error}") from error


class _Chunks(io.RawIOBase):
    """A raw file over an iterator of byte chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


@dataclass(frozen=True, slots=True)
class TextBytes:
    """An open file whose lines end in a newline byte; `encoding` is that of each line."""

    stream: io.BufferedReader
    encoding: str
    head: bytes

    def lines(self, limit: int) -> Iterator[bytes | BadRow]:
        """Each line with its newline. One longer than `limit` bytes is a BadRow and is skipped
        without being held in memory."""
        readline = self.stream.readline
        for number in itertools.count(1):
            raw = readline(limit + 2)  # 2: the line's own "\r\n" does not count
            if not raw:
                return
            if len(raw) <= limit or (raw.endswith(b"\n") and len(raw.rstrip(b"\r\n")) <= limit):
                yield raw
                continue
            yield BadRow(number, "row.too_large", excerpt(raw))
            while raw and not raw.endswith(b"\n"):
                raw = readline(CHUNK)

    def utf8_chunks(self) -> Iterator[bytes]:
        """The whole content as chunks of UTF-8."""
        chunks = iter(lambda: self.stream.read(CHUNK), b"")
        return chunks if self.encoding == "utf-8" else _recoded("", chunks, self.encoding)

    def decoded(self, limit: int) -> Iterator[str | BadRow]:
        """Each line as a string with its newline."""
        for number, raw in enumerate(self.lines(limit), 1):
            if isinstance(raw, BadRow):
                yield raw
                continue
            try:
                text = raw.decode(self.encoding)
            except UnicodeDecodeError:
                yield BadRow(number, "row.encoding", excerpt(raw))
            else:
                yield text


def text_bytes(part: Part, stream: ByteStream, encoding: str) -> TextBytes:
    """Look at the start of `stream`, honour a byte-order mark, and check the encoding.

    UTF-16 and UTF-32 are turned into UTF-8 on the way. Raises SourceError where the sample shows
    that `encoding` is wrong, ConfigError where it does not exist.
    """
    encoding = canonical(encoding)
    head = _exactly(stream, SAMPLE)
    bom, found = next(((bom, name) for bom, name in BOMS if head.startswith(bom)), (b"", encoding))
    head, encoding = head[len(bom) :], found
    chunks: Iterator[bytes] = itertools.chain((head,), iter(lambda: stream.read(CHUNK), b""))
    if encoding.startswith(("utf-16", "utf-32")):
        wide = encoding + "-le" if encoding in ("utf-16", "utf-32") else encoding  # no mark: little-endian
        chunks, encoding = _recoded(part.name, chunks, wide), "utf-8"
        head = next(chunks, b"")
        chunks = itertools.chain((head,), chunks)
    else:
        check_encoding(part.name, head, encoding)
    return TextBytes(io.BufferedReader(_Chunks(chunks), CHUNK), encoding, head)


def canonical(encoding: str) -> str:
    """The codec's own name. Raises ConfigError for one that Python does not have."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(f"unknown encoding {encoding!r}", hint="for example utf-8, cp1252 or utf-16") from None


def _exactly(stream: ByteStream, size: int) -> bytes:
    """`size` bytes unless the stream ends earlier (pipes give less at a time)."""
    parts = []
    while size > 0 and (chunk := stream.read(size)):
        parts.append(chunk)
        size -= len(chunk)
    return b"".join(parts)


def _recoded(name: str, chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Any encoding as UTF-8. What cannot be decoded (half surrogate pairs, stray bytes, a cut-off
    last character) becomes bytes that are not UTF-8, so that only its row is rejected."""
    errors = "surrogatepass" if encoding.startswith("utf-") else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    done = 0
    try:
        for chunk in chunks:
            if text := decoder.decode(chunk):
                yield text.encode("utf-8", "surrogatepass")
            done += len(chunk)
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not {encoding}: byte {done + error.start}", hint=error.reason) from None
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        yield b"\xff"


def check_encoding(name: str, head: bytes, encoding: str) -> None:
    """Raise SourceError where the sample `head` is not in `encoding`.

    A few undecodable lines among others are bad rows; when no line with a non-ASCII byte can be
    decoded and they are not rare, it is the encoding that is wrong.
    """
    if head.count(0) > NUL_SHARE * len(head):
        wide = "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
        raise SourceError(f"{name} is full of NUL bytes: it is not {encoding}", hint=f"perhaps encoding={wide!r}")
    lines = head.splitlines(keepends=True)
    if len(head) >= SAMPLE and len(lines) > 1:
        lines.pop()  # the sample may have cut it
    good, bad, first, offset = 0, 0, "", 0
    for line in lines:
        problem = "" if line.isascii() else _undecodable(line, encoding, offset)
        good += not problem and not line.isascii()
        bad += bool(problem)
        first = first or problem
        offset += len(line)
    if bad and not good and bad >= WRONG_SHARE * len(lines):
        raise SourceError(f"{name} is not {encoding}: {first}", hint=_other_encoding(head, encoding))


def _undecodable(line: bytes, encoding: str, offset: int) -> str:
    try:
        line.decode(encoding)
    except UnicodeDecodeError as error:
        return f"byte {offset + error.start} is 0x{line[error.start]:02x}"
    return ""


def _other_encoding(head: bytes, encoding: str) -> str:
    for other in ("utf-8", "cp1252"):
        if other != encoding and not _undecodable(head, other, 0):
            return f"perhaps encoding={other!r}"
    return "perhaps encoding='latin-1'; give the encoding that the file was written in"
