"""Which requests go to a model API: by known hosts, and elsewhere by the path and a body that names a model."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

_KNOWN: Final = frozenset(
    {
        "api.openai.com", "eu.api.openai.com", "us.api.openai.com", "api.anthropic.com",
        "generativelanguage.googleapis.com", "aiplatform.googleapis.com", "api.mistral.ai", "codestral.mistral.ai",
        "api.cohere.com", "api.cohere.ai", "api.groq.com", "api.together.xyz", "api.together.ai", "api.fireworks.ai",
        "openrouter.ai", "api.deepseek.com", "api.x.ai", "api.perplexity.ai", "api.voyageai.com", "api.jina.ai",
        "api.cerebras.ai", "api.sambanova.ai", "api.moonshot.ai", "api.moonshot.cn", "api.ai21.com",
        "api.replicate.com", "integrate.api.nvidia.com", "router.huggingface.co", "api-inference.huggingface.co",
        "models.inference.ai.azure.com", "models.github.ai", "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com",
        "open.bigmodel.cn", "api.z.ai", "api.minimax.io", "api.deepinfra.com", "api.studio.nebius.com",
    }
)  # fmt: skip
_KNOWN_PATTERN = re.compile(
    r".+\.openai\.azure\.com|.+\.services\.ai\.azure\.com|.+\.models\.ai\.azure\.com|.+-aiplatform\.googleapis\.com"
    r"|bedrock(?:-mantle|-runtime)?\..+\.amazonaws\.com|.+\.endpoints\.huggingface\.cloud"
)

_PATH = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|messages|messages/count_tokens|rerank|moderations"
    r"|images/generations|images/edits|audio/speech|audio/transcriptions|audio/translations|chat|chat/stream|embed|classify"
    r"|generate|ocr|fim/completions|agents/completions|invocations)/?$"
)
_MODEL_IN_PATH = re.compile(
    r"/models/[^/]+:(?:generateContent|streamGenerateContent|embedContent|batchEmbedContents|countTokens|predict"
    r"|rawPredict|streamRawPredict)$"
    r"|/deployments/[^/]+/(?:chat/completions|completions|embeddings|images/generations|images/edits"
    r"|audio/speech|audio/transcriptions|audio/translations)$"
    r"|/model/.+/(?:invoke|invoke-with-response-stream|converse|converse-stream)$"
)
"""Google, Azure and Bedrock name the model there."""

_MODEL: Final = b'"model"'
"""A key of a JSON body, or the name of a part of a form."""


@lru_cache(maxsize=256)
def is_known_host(host: str) -> bool:
    """Whether only a model API is at this host; the port does not matter."""
    name = host.partition(":")[0]
    return name in _KNOWN or _KNOWN_PATTERN.fullmatch(name) is not None


@lru_cache(maxsize=256)
def may_be_model_path(path: str) -> bool:
    """Whether model APIs have such a path: local servers, gateways and proxies have any host."""
    return _PATH.search(path) is not None or _MODEL_IN_PATH.search(path) is not None


def names_model(url: str, body: bytes | None) -> bool:
    """Whether a request has a model API's path, and names a model there or in its body, or has one that is unknown."""
    path = urlsplit(url).path
    if _MODEL_IN_PATH.search(path) is not None:
        return True
    return (body is None or _MODEL in body) and _PATH.search(path) is not None


def host_is_among(host: str, hosts: Collection[str]) -> bool:
    """Whether a host, with its port, is named in `hosts`: with this port, or without any."""
    return host in hosts or host.rpartition(":")[0] in hosts
