"""The fake model server with the APIs of Google and Cohere beside those of OpenAI and Anthropic.

Mistral's API has OpenAI's shape and paths. Bodies can be compressed, and a path may be answered as a test wants.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from tests import fake_llm

MARK = "fake-"


class FakeAPIs(fake_llm.FakeLLM):
    """The server of all APIs.

    Args:
        compressed: whether answers in JSON and streams are compressed with gzip.
    """

    def __init__(self, *, compressed: bool = False, chunk_delay_ms: float = 0) -> None:
        super().__init__(chunk_delay_ms=chunk_delay_ms)
        self.compressed = compressed
        self.bodies: list[bytes] = []
        self._server.RequestHandlerClass = type("Handler", (_Handler,), {"fake": self})

    def __enter__(self) -> FakeAPIs:
        self.start()
        return self


class _Handler(fake_llm._Handler):
    fake: FakeAPIs

    def do_POST(self) -> None:  # noqa: N802
        path = self.path.split("?")[0].rstrip("/")
        if path.endswith((":generateContent", ":streamGenerateContent", ":batchEmbedContents")):
            self._google(path)
        elif path.endswith(("/v2/chat", "/v2/embed")):
            self._cohere(path)
        else:
            super().do_POST()

    def _start(self) -> tuple[dict[str, Any], int]:
        body = json.loads(self._read_body())
        number = self.fake.serial()
        self.fake.record({"n": number, "api": self.path, "status": 200})
        return body, number

    def _google(self, path: str) -> None:
        body, number = self._start()
        if path.endswith(":batchEmbedContents"):
            texts = [part["text"] for one in body["requests"] for part in one["content"]["parts"]]
            return self._json(200, {"embeddings": [{"values": fake_llm.embed(text, 8)} for text in texts]})
        asked = " ".join(part.get("text", "") for turn in body["contents"] for part in turn["parts"])
        text = fake_llm.compose_answer(asked, [])
        usage = {
            "promptTokenCount": fake_llm.count_tokens(asked),
            "candidatesTokenCount": fake_llm.count_tokens(text),
            "totalTokenCount": fake_llm.count_tokens(asked) + fake_llm.count_tokens(text),
        }
        model = path.rpartition("/")[2].partition(":")[0]

        def answer(part: str, *, last: bool) -> dict[str, Any]:
            candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": part}]}, "index": 0}
            if last:
                candidate["finishReason"] = "STOP"
            return {
                "candidates": [candidate],
                "usageMetadata": usage,
                "modelVersion": model,
                "responseId": f"{MARK}google-{number}",
            }

        if path.endswith(":generateContent"):
            return self._json(200, answer(text, last=True))
        half = len(text) // 2
        return self._sse([(None, answer(text[:half], last=False)), (None, answer(text[half:], last=True))], cut=False)

    def _cohere(self, path: str) -> None:
        body, number = self._start()
        name = f"{MARK}cohere-{number}"
        if path.endswith("/v2/embed"):
            vectors = {"float": [fake_llm.embed(text, 8) for text in body["texts"]]}
            return self._json(200, {"id": name, "embeddings": vectors, "texts": body["texts"]})
        text = fake_llm.compose_answer(fake_llm.flatten(body["messages"][-1]["content"]), [])
        usage = {"tokens": {"input_tokens": 5, "output_tokens": 7}}
        if not body.get("stream"):
            message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
            return self._json(200, {"id": name, "finish_reason": "COMPLETE", "message": message, "usage": usage})
        events: list[tuple[str | None, object]] = [
            ("message-start", {"type": "message-start", "id": name, "delta": {"message": {"role": "assistant"}}}),
            (
                "content-start",
                {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            ),
        ]
        events += [
            ("content-delta", {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": part}}}})
            for part in fake_llm.pieces(text, 8)
        ]
        events.append(("content-end", {"type": "content-end", "index": 0}))
        events.append(("message-end", {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}))
        return self._sse(events, cut=False)

    # Compression

    def _json(self, status: int, payload: Any, headers: dict[str, str] | None = None) -> None:
        if not self._compresses():
            super()._json(status, payload, headers)
            return
        data = gzip.compress(json.dumps(payload).encode())
        self.send_response(status)
        sent = {"Content-Type": "application/json", "Content-Encoding": "gzip", "Content-Length": str(len(data))}
        for name, value in {**sent, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _sse(self, events: list[tuple[str | None, object]], cut: bool) -> None:
        if not self._compresses() or cut:
            super()._sse(events, cut)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        compress = zlib.compressobj(wbits=31)
        for name, data in events:
            payload = data if isinstance(data, str) else json.dumps(data)
            frame = (f"event: {name}\n" if name else "") + f"data: {payload}\n\n"
            self._chunk(compress.compress(frame.encode()) + compress.flush(zlib.Z_SYNC_FLUSH))
        self._chunk(compress.flush())
        self._chunk(b"")

    def _compresses(self) -> bool:
        return self.fake.compressed and "gzip" in self.headers.get("Accept-Encoding", "")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
