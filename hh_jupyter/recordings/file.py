"""The file of a recording: one JSON line an exchange, made for reading and for git.

A line holds the request and the response with JSON bodies as JSON and streams as their events, both redacted, and
digests of the original request, which are compared. Lines that cannot be read are reported, skipped and kept.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hh_jupyter.recordings.exchange import Answer

logger = logging.getLogger(__name__)

Redact = Callable[[Any], Any]
"""Returns a plain document without secrets."""

KEPT_HEADERS: Final = (
    "content-type", "location", "x-request-id", "request-id", "x-goog-request-id", "apim-request-id"
)  # fmt: skip
EVENT_STREAM: Final = "text/event-stream"
_LINE_TYPES: Final = ("application/x-ndjson", "application/stream+json", "application/jsonl", "application/x-jsonlines")
_MODE: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(slots=True, eq=False)
class Entry:
    """One recorded exchange: a line of the file, parsed.

    Attributes:
        line: as in the file, without its end.
        digest: of the request, canonical, with `ignored` fields left out.
        raw: digest of the request's bytes.
        complete: the response has everything that the API meant to send.
        replaces: lines of the same digest before this one no longer count.
    """

    line: str
    digest: str
    raw: str
    status: int
    complete: bool
    method: str = "POST"
    target: str = ""
    ignored: tuple[str, ...] = ()
    ms: int = 0
    replaces: bool = False
    used: bool = field(default=False, compare=False)

    @property
    def answerable(self) -> bool:
        """Whether it may answer a request in mode `auto`: complete and no error."""
        return self.complete and 200 <= self.status < 400

    def document(self) -> dict[str, Any]:
        """The whole line."""
        found: dict[str, Any] = json.loads(self.line)
        return found

    def answer(self) -> Answer:
        """The response, with the same events and values as the original."""
        response = self.document()["response"]
        broken = response.get("error")
        headers = {str(name): str(value) for name, value in response.get("headers", {}).items()}
        error = (str(broken[0]), str(broken[1])) if broken else None
        return Answer(self.status, headers, encode_body(response), error)


def entry_of(line: str) -> Entry:
    """The entry of a line.

    Raises:
        ValueError: the line is damaged.
    """
    try:
        document = json.loads(line)
        request, response, match = document["request"], document["response"], document["match"]
        encode_body(response)
        entry = Entry(
            line=line,
            digest=match["digest"],
            raw=match["raw"],
            status=response["status"],
            complete=response.get("complete", True),
            method=request["method"],
            target=request["target"],
            ignored=tuple(match.get("ignored", ())),
            ms=response.get("ms", 0),
            replaces=document.get("replaces", False),
        )
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    texts: tuple[object, ...] = (entry.digest, entry.raw, entry.method, entry.target)
    if not all(type(text) is str for text in texts) or type(entry.status) is not int:
        raise ValueError("a field has the wrong type")
    return entry


# Bodies: JSON, events, lines, text or bytes


def decode_body(body: bytes, content_type: str, redact: Redact) -> dict[str, Any]:
    """A body as fields of a line: one of `body` (JSON), `events`, `lines`, `text` and `base64`; none if it is empty."""
    if not body:
        return {}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        if not content_type.startswith("text/") and "json" not in content_type:
            return {"base64": base64.b64encode(body).decode()}
        text = body.decode(
            errors="surrogateescape"
        )  # A stream was cut inside a character: it is redacted all the same.
    if content_type == EVENT_STREAM:
        return {"events": [_event(block, redact) for block in _blocks(text)]}
    if content_type in _LINE_TYPES:
        return {"lines": [_json_or_text(line, redact) for line in re.findall(r".*\n|.+$", text)]}
    found = _json_or_text(text, redact)
    return {"body": found["json"]} if "json" in found else found


def encode_body(response: Mapping[str, Any]) -> bytes:
    """The body of a response from the fields of its line."""
    if "body" in response:
        return _wire(response["body"]).encode()
    if "events" in response:
        return _encoded("".join(map(_encoded_event, response["events"])))
    if "lines" in response:
        return _encoded(
            "".join(_wire(line["json"]) + "\n" if "json" in line else line["text"] for line in response["lines"])
        )
    if "base64" in response:
        return base64.b64decode(response["base64"])
    return _encoded(str(response.get("text", "")))


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def request_body(body: bytes, content_type: str, redact: Redact) -> dict[str, Any]:
    """The body of a request, to be read by people: what is no text is left out."""
    found = decode_body(body, content_type, redact)
    return {"bytes": len(body)} if "base64" in found else found


def _json_or_text(text: str, redact: Redact) -> dict[str, Any]:
    try:
        return {"json": redact(json.loads(text.encode()))}
    except (ValueError, RecursionError):
        return {"text": redact(text)}


_LINE_END = re.compile(r"\r\n|\n|\r")
_BLOCK_END = re.compile(r"(?:\r\n|\n|\r){2,}")


def _blocks(text: str) -> list[str]:
    """The blocks of an event stream, each with the empty line at its end; the last one may have none."""
    blocks, start = [], 0
    for end in _BLOCK_END.finditer(text):
        blocks.append(text[start : end.end()])
        start = end.end()
    return [*blocks, text[start:]] if start < len(text) else blocks


def _event(block: str, redact: Redact) -> dict[str, Any]:
    """An event as its name and its data; as text if it has anything else, or is cut."""
    lines = _LINE_END.split(block)
    names = [line[6:].strip() for line in lines if line.startswith("event:")]
    data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
    ends = _BLOCK_END.search(block) is not None
    if ends and len(data) == 1 and len(names) <= 1 and len([line for line in lines if line]) == len(names) + 1:
        found = _json_or_text(data[0], redact)
        value = {"data": found["json"]} if "json" in found else {"text": found["text"]}
        return {"event": names[0], **value} if names else value
    return {"raw": redact(block)}


def _encoded_event(event: Mapping[str, Any]) -> str:
    if "raw" in event:
        return str(event["raw"])
    data = _wire(event["data"]) if "data" in event else event["text"]
    name = f"event: {event['event']}\n" if "event" in event else ""
    return f"{name}data: {data}\n\n"


def _wire(value: Any) -> str:
    """JSON as it is sent, in ASCII: some clients take a line separator inside a text for the end of a line."""
    return json.dumps(value, separators=(",", ":"))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def dump_line(document: Mapping[str, Any]) -> str:
    """A line of the file. Lone surrogates, which UTF-8 cannot hold, are escaped."""
    text = _dump(document)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(document)
    # Characters that some readers take for the end of a line.
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")


# Reading and writing


class RecordingFile:
    """The lines of a file.

    Attributes:
        entries: in order; a damaged line is text.
        damaged: numbers of the lines that cannot be read.
        problem: why the file could not be read or written, in one line; None if it could.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry | str] = []
        self.damaged: list[int] = []
        self.problem: str | None = None
        self._state: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file, unless it is as this object left it."""
        if self._state is not None and self._state == self._now():
            return
        self.entries, self.damaged = [], []
        try:
            _check_is_file(self.path)
            text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            text = ""
        except OSError as error:
            self._note(f"cannot be read: {error.strerror or error}")
            text = ""
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                entry = entry_of(line.rstrip("\r"))
            except ValueError:
                self.damaged.append(number)
                self.entries.append(line)
                continue
            if entry.replaces:
                self.entries = [e for e in self.entries if isinstance(e, str) or e.digest != entry.digest]
            self.entries.append(entry)
        self._state = self._now()
        if self.damaged:
            numbers = ", ".join(map(str, self.damaged[:5])) + (", ..." if len(self.damaged) > 5 else "")
            which = f"line {numbers} is" if len(self.damaged) == 1 else f"lines {numbers} are"
            logger.warning("hh_jupyter: %s: %s damaged and skipped", self.path, which)

    def append(self, entry: Entry) -> bool:
        """Add a line at the end. False if that is not possible, which is logged once."""
        data = f"{entry.line}\n".encode("utf-8", "surrogateescape")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path) as number:
                # Another process may have written; then the file is read again before the next run.
                unchanged = self._now() == self._state or not os.fstat(number).st_size
                _append(number, data)
                self._state = self._now() if unchanged else None
        except OSError as error:
            self._note(f"cannot be written: {error.strerror or error}; answers are not recorded")
            return False
        self.entries.append(entry)
        return True

    def rewrite(self, entries: Iterable[Entry | str]) -> None:
        """Write the file anew with these entries, unless another process has changed it since it was read."""
        kept = list(entries)
        data = "".join((e if isinstance(e, str) else e.line) + "\n" for e in kept).encode("utf-8", "surrogateescape")
        try:
            with _locked(self.path):
                if self._now() != self._state:
                    self._state = None
                    return
                _replace(self.path.resolve(), data)
        except OSError as error:
            self._state = None
            self._note(f"cannot be put in order: {error.strerror or error}")
            return
        self.entries, self._state = kept, self._now()

    def _now(self) -> tuple[int, int, int] | None:
        """What changes when the file does."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _note(self, problem: str) -> None:
        if self.problem is None:
            logger.warning("hh_jupyter: the recording %s %s", self.path, problem)
        self.problem = problem


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The open file, made if it is missing, which no other recorder writes meanwhile."""
    while True:
        _check_is_file(path)
        number = os.open(path, _FLAGS, _MODE)
        try:
            _lock(number)
            if os.fstat(number).st_ino == path.stat().st_ino:  # Else another process has replaced it.
                yield number
                return
        finally:
            _lock(number, release=True)  # A child that was forked meanwhile has the file open too.
            os.close(number)


def _check_is_file(path: Path) -> None:
    """Raise OSError for a device, a pipe or a folder: reading it may never end, and putting it in order replaces it."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")


def _lock(number: int, *, release: bool = False) -> None:
    try:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_UN if release else fcntl.LOCK_EX)
    except (ImportError, OSError):
        pass  # Windows, or a file system without locks: one process at a time.


def _append(number: int, data: bytes) -> None:
    """Write all of the data, or none of it: a full disk must not leave a part of a line."""
    size = os.fstat(number).st_size
    if size:
        os.lseek(number, size - 1, os.SEEK_SET)
        if os.read(number, 1) != b"\n":  # A line that was cut.
            data = b"\n" + data
    try:
        _write_all(number, data)
    except OSError:
        os.ftruncate(number, size)
        raise


def _write_all(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]


def _replace(path: Path, data: bytes) -> None:
    number, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # Mode 0600.
    try:
        try:
            _write_all(number, data)
        finally:
            os.close(number)
        Path(beside).replace(path)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
