"""The views of the Django project that the runtime tests serve, by WSGI and by ASGI."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from tests.runtimes.views import (
    answer,
    async_broken_words,
    async_endless,
    async_words,
    broken_words,
    endless,
    fail,
    session_here,
    words,
)


def ask(request: HttpRequest, question: str) -> HttpResponse:
    return HttpResponse(answer(question))


async def async_ask(request: HttpRequest, question: str) -> HttpResponse:
    return HttpResponse(answer(question))


def stream(request: HttpRequest, question: str) -> Any:
    """Django warns of an iterator that is not of the server's kind."""
    return StreamingHttpResponse(async_words(question) if isinstance(request, ASGIRequest) else words(question))


def failing(request: HttpRequest, question: str) -> HttpResponse:
    return HttpResponse(fail(question))


def breaking(request: HttpRequest, question: str) -> Any:
    is_async = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(async_broken_words(question) if is_async else broken_words(question))


def unending(request: HttpRequest, question: str) -> Any:
    is_async = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(async_endless(question) if is_async else endless(question))


def ping(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(session_here()))


urlpatterns = [
    path("ask/<question>", ask),
    path("async-ask/<question>", async_ask),
    path("stream/<question>", stream),
    path("fail/<question>", failing),
    path("break/<question>", breaking),
    path("endless/<question>", unending),
    path("health/ping", ping),
]
