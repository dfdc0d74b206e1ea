"""The forms of providers' tokens, and a search for them in text.

Most tokens begin with a prefix that ends in `-`, `_` or `.`, such as `ghp_`. One pass over the text looks for these
characters with enough behind them; the characters before them select the forms to try, so the cost does not depend on
the number of forms. Only the tokens without such a prefix are searched one by one.

A form matches a whole token, and the beginning of one at the end of the text or before "...", where text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final

BEGINS: Final = (
    r"(?:(?<![A-Za-z0-9\\])|(?<=\\)(?![bfnrtuvx])|(?<=\\[bfnrtv])|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})"
    r"|(?<=%[0-9A-Fa-f]{2})|(?<=[0-9;\[]m))"
)
"""Pattern of the place before a token: after no letter or digit, unless it ends an escape ("\\n", "%3D", a color)."""

CUT: Final = r"(?=\Z|\.\.\.|\u2026)"
"""Pattern of the place where text was cut."""


def _random(changes: int, run: int) -> str:
    """A pattern of the place before random text, which names are not.

    Args:
        changes: between small letters, capitals and digits; or
        run: letters and digits in a row, with both among the first; or twice as many of either.
    """
    change = r"(?:[a-z](?=[A-Z0-9])|[0-9](?=[A-Za-z])|[A-Z](?=[0-9]|[A-Z][a-z]))"
    mixed = rf"(?=[A-Za-z]{{0,{2 * run}}}[0-9])(?=[0-9]{{0,{2 * run}}}[A-Za-z])[A-Za-z0-9]{{{run}}}"
    return (
        rf"(?:(?=(?>(?:(?!{change})[\w+/-]){{0,40}}{change}){{{changes}}})"
        rf"|(?=[\w+/-]{{0,40}}?(?<![A-Za-z0-9])(?:{mixed}|[A-Za-z0-9]{{{2 * run}}})))"
    )


RANDOM: Final = _random(4, 12)
"""Pattern of the place before random text, such as a token."""

_HALF: Final = rf"{_random(1, 8)}[\w-]{{6,150}}+{CUT}"
_HALF_OF_WORD: Final = rf"{RANDOM}[\w-]{{12,150}}+{CUT}"
_WORDS: Final = frozenset(
    {
        "key-", "key_", "pat-", "pat.", "sat.", "API-", "ico-", "secret_", "npm_", "ops_",
        "pnu_", "rnd_", "napi_", "jina_", "tfp_", "vca_", "vci_", "vcr_", "tk-us-",
    }
)  # fmt: skip
"""Prefixes that names have too, as have those of three characters: the beginning of a token has to be longer."""

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_FORMS: Final = {
    # Language models and what is built with them.
    # OpenAI, Anthropic, OpenRouter, Langfuse, DeepSeek, LiteLLM and others.
    "sk- pk- sk-proj- sk-svcacct- sk-admin- sk-ant- sk-or- sk-lf-": rf"{RANDOM}[\w-]{{16,}}",
    "sk-helicone-": rf"{_random(2, 12)}[\w-]{{24,}}",
    "hh_": rf"(?!jupyter|session){RANDOM}[\w-]{{16,}}",
    "xai- pplx- tvly- nvapi- csk- gsk_ pcsk_ lsv2_ tgp_ jina_ pylf_ llx- vck_ wandb_v1_ apify_api_ bb_live_ ctx7sk-": (
        rf"{RANDOM}[\w-]{{16,}}"
    ),  # xAI, Perplexity, Tavily, Nvidia, Cerebras, Groq, Pinecone, LangSmith, Together, Jina, Logfire, LlamaCloud, ...
    "hf_ api_org_": rf"[A-Za-z0-9]{{30,}}|(?=(?:[a-z]*[A-Z]+){{3}})[A-Za-z]{{10,29}}+{CUT}",  # Hugging Face: letters.
    "r8_ rpa_ esecret_ m0- co_": rf"{RANDOM}[A-Za-z0-9]{{32,}}",  # Replicate, RunPod, Anyscale, Mem0, Cohere.
    "fw_": rf"{RANDOM}[A-Za-z0-9]{{20,}}",  # Fireworks.
    "pa- al-": rf"{RANDOM}[\w-]{{38,}}",  # Voyage.
    "fc- e2b_ ls__ pl_": r"[0-9a-f]{32,}",  # Firecrawl, E2B, LangChain, PromptLayer.
    "ak- as-": rf"{RANDOM}[A-Za-z0-9]{{22}}(?![\w-])",  # Modal.
    # Clouds, hosting, databases.
    "ya29.": r"[\w-]{20,}(?:\.[\w-]+)*",  # Google.
    "AQ.": r"Ab[\w-]{30,}",
    "GOCSPX-": rf"{RANDOM}[\w-]{{20,}}",
    "bedrock-api-key-": r"[\w+/-]{30,}={0,2}",
    "dop_v1_ doo_v1_ dor_v1_": r"[0-9a-f]{40,}",  # DigitalOcean.
    "pscale_tkn_ pscale_pw_ pscale_oauth_": r"[\w=.-]{30,}",  # PlanetScale.
    "sbp_ sb_secret_ napi_ rnd_ nfp_ vercel_blob_rw_ vcp_ cfut_ cfat_ cfk_ mdb_sa_sk_": (
        rf"{RANDOM}[\w-]{{18,}}"
    ),  # Supabase, Neon, Render, Netlify, Vercel, Cloudflare, MongoDB.
    "vca_ vci_ vcr_": rf"{RANDOM}[A-Za-z0-9]{{48,}}",  # Vercel.
    "AVNS_": rf"{_random(2, 12)}[\w-]{{19}}(?!\w)",  # Aiven.
    "v1.0-": r"[0-9a-f]{24}-[0-9a-f]{100,}",  # Cloudflare.
    "HRKU-": rf"{RANDOM}[\w-]{{30,}}",  # Heroku.
    "fo1_ fm1r_ fm1a_ fm2_": r"[\w+/-]{40,}={0,3}",  # Fly.
    "hvs. hvb. hvr.": rf"{RANDOM}[\w-]{{20,}}",  # Vault.
    "dp.pt. dp.ct. dp.sa. dp.said. dp.scim. dp.audit.": r"[A-Za-z0-9]{36,}",  # Doppler.
    "pul- pnu_": rf"{RANDOM}[A-Za-z0-9]{{36,}}",  # Pulumi, Prefect.
    "tskey-": rf"{RANDOM}[\w-]{{20,}}",  # Tailscale.
    "ops_": r"eyJ[\w+/-]{40,}={0,3}",  # 1Password.
    "A3-": r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
    "AGE-SECRET-KEY-": r"1[A-Z0-9]{40,}",
    "t1.": r"[\w-]{40,}={0,2}\.[\w-]{86}={0,2}",  # Yandex.
    "amzn.mws.": _UUID,
    "dnkey-": r"[A-Z0-9_=-]{26}-[A-Z0-9_=-]{52}",  # Defined Networking.
    "tk-us-": rf"{RANDOM}[\w-]{{48}}",  # Scalingo.
    # Code, packages, containers.
    "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_": rf"{RANDOM}\w{{20,}}(?:\.[\w-]{{8,}})*",
    "glpat- gldt- glptt- glrt- glrtr- glcbt- glft- glimt- glagent- gloas- glsoat- glffct- glwt-": (
        rf"{RANDOM}[\w-]{{20,}}(?:\.[0-9a-z]{{2,}}){{0,2}}"
    ),  # GitLab.
    "npm_": rf"{RANDOM}[A-Za-z0-9]{{36,}}",
    "pypi-": rf"{RANDOM}[\w-]{{16,}}",
    "rubygems_ sqp_ squ_ sqa_": r"[0-9a-f]{40,}",  # RubyGems, SonarQube.
    "sgp_": r"(?:[0-9a-f]{16}_|local_)?[0-9a-f]{40}",  # Sourcegraph.
    "dckr_pat_ dckr_oat_ CCIPAT_ CCIPRJ_": rf"{RANDOM}[\w-]{{20,}}",  # Docker Hub, CircleCI.
    "bkua_ CLOJARS_": r"[0-9a-f]{40,}",  # Buildkite.
    "key_": r"[0-9a-f]{64}(?!\w)",  # Cursor.
    "pat. sat.": r"[\w-]{22}\.[0-9a-f]{24}\.[A-Za-z0-9]{20}",  # Harness.
    "ico-": rf"{RANDOM}[A-Za-z0-9]{{32}}(?![\w-])",  # Infracost.
    # Monitoring.
    "glsa_ sntryu_ sntryi_ phx_ phs_": rf"{RANDOM}\w{{30,}}",  # Grafana, Sentry, PostHog.
    "hcaik_ hcbik_ hcxik_": rf"{RANDOM}[0-9a-z]{{50,}}",  # Honeycomb.
    "glc_ sntrys_": rf"{RANDOM}[\w+/-]{{30,}}={{0,3}}(?:_[\w+/]{{30,}})?",
    "NRAK- NRII- NRJS-": rf"{RANDOM}[A-Za-z0-9-]{{18,}}",  # New Relic.
    "dt0c01. dt0s01. dt0s16.": r"[A-Z0-9]{20,}\.[A-Z0-9]{40,}",  # Dynatrace.
    # Messages, payments, tools.
    "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-": (
        rf"(?:[0-9]{{8,}}-[\w%-]{{4,}}|{RANDOM}[\w%-]{{16,}})"
    ),  # Slack.
    "sk_ rk_": rf"{RANDOM}\w{{20,}}",  # Stripe, ElevenLabs, Clerk.
    "whsec_": r"(?=[a-z0-9+/]*[A-Z])(?=[A-Za-z+/]*[0-9])[A-Za-z0-9+/]{20,}={0,2}",
    "sq0atp- sq0csp-": rf"{RANDOM}[\w-]{{20,}}",  # Square.
    "shpat_ shpca_ shppa_ shpss_ shptka_": r"[0-9a-fA-F]{32}",  # Shopify.
    "SG.": rf"{RANDOM}[\w-]{{16,}}\.[\w-]{{16,}}",  # SendGrid.
    "FLWSECK- FLWSECK_TEST-": r"[0-9a-f]{12,32}-X",  # Flutterwave.
    "access-sandbox- access-development- access-production-": _UUID,  # Plaid.
    "key-": r"[0-9a-f]{32}(?![\w-])",  # Mailgun.
    "xkeysib- xsmtpsib-": r"[0-9a-f]{40,}-\w{16}",  # Brevo.
    "re_": rf"{RANDOM}[A-Za-z0-9]{{6,12}}_[A-Za-z0-9]{{20,}}",  # Resend.
    "lin_api_ lin_oauth_ lin_wh_ CFPAT- ntn_ figd_ figu_ figor_": (
        rf"{RANDOM}[\w-]{{30,}}"
    ),  # Linear, Contentful, Notion, Figma.
    "secret_": r"[A-Za-z0-9]{43}(?!\w)",  # Notion.
    "PMAK-": r"[0-9a-f]{24}-[0-9a-f]{30,}",  # Postman.
    "tfp_": rf"{_random(2, 12)}[\w.=-]{{40,}}",  # Typeform.
    "pk_": r"[0-9]{7,9}_[A-Z0-9]{32}",  # ClickUp.
    "fio-u-": rf"{RANDOM}[\w-]{{64}}",  # Frame.io.
    "p8e-": rf"{RANDOM}[0-9a-z]{{32}}(?![\w-])",  # Adobe.
    "s-s4t2ud- s-s4t2af-": r"[0-9a-f]{64}",  # 42.
    "pat-": r"[a-z]{2}[0-9]{1,2}-[0-9a-f-]{36}",  # HubSpot.
    "API- PMAT-": r"[A-Z0-9]{26,}",  # Octopus, Postman.
    "sl.": rf"(?:u\.)?{RANDOM}[\w-]{{100,}}",  # Dropbox.
    "sk. pk.": r"eyJ[\w-]{20,}\.[\w-]{20,}",  # Mapbox.
    "rdme_ duffel_live_ duffel_test_ shippo_live_ shippo_test_": rf"{RANDOM}[\w-]{{30,}}",
}  # fmt: skip
"""Prefixes, separated by spaces -> pattern of the characters after each of them."""

_WITHOUT_PREFIX: Final = (
    # Each has a text that is in every match; with it, the other texts are not searched.
    *((name, rf"{name}[A-Z0-9]{{16}}(?![A-Z0-9])") for name in ("AKIA", "ASIA", "ABIA", "ACCA")),  # AWS.
    ("IQoJb3JpZ2lu", r"IQoJb3JpZ2lu[\w+/%-]{40,}=*"),
    ("ABSK", r"ABSK[A-Za-z0-9+/]{40,}={0,2}"),
    ("AIza", r"AIza[\w-]{30,}"),  # Google.
    ("1//0", r"1//0[\w-]{35,}"),
    ("LTAI", r"LTAI[A-Za-z0-9]{16,24}(?![A-Za-z0-9])"),  # Alibaba, Tencent.
    ("AKID", r"AKID[A-Za-z0-9]{32}(?![A-Za-z0-9])"),
    ("dapi", r"dapi[0-9a-f]{32}(?:-[0-9])?"),  # Databricks.
    ("AstraCS:", r"AstraCS:[\w:-]{40,}"),
    ("Q~", r"[\w~.]{3}[0-9]Q~[\w~.-]{31,34}"),  # Azure.
    ("dp.st.", r"dp\.st\.(?:[\w-]{2,35}\.)?[A-Za-z0-9]{36,}"),  # Doppler.
    ("sha256~", r"sha256~[\w-]{43}"),  # OpenShift.
    (".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,}"),  # Terraform.
    ("ATATT3", r"ATATT3[\w=-]{40,}"),  # Atlassian, Bitbucket.
    ("ATCTT3", r"ATCTT3[\w=-]{40,}"),
    ("ATBB", r"ATBB[A-Za-z0-9]{32}(?![A-Za-z0-9])"),
    ("AKCp", r"AKCp[A-Za-z0-9]{60,}"),  # JFrog.
    ("oy2", r"oy2[a-z0-9]{43}(?![A-Za-z0-9])"),  # NuGet.
    ("GR1348941", r"GR1348941[\w-]{20,}"),  # GitLab.
    ("eyJrIjoi", r"eyJrIjoi[A-Za-z0-9+/]{40,}={0,3}"),  # Grafana.
    ("SK", r"SK[0-9a-f]{32}(?![0-9A-Za-z])"),  # Twilio.
    ("AC", r"AC[0-9a-f]{32}(?![0-9A-Za-z])"),
    *((mark, rf"(?:bot)?(?P<secret>[0-9]{{8,10}}{mark}[\w-]{{30,}})") for mark in (":AA", "%3AAA")),  # Telegram.
    ("pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{60,}"),  # Airtable.
    ("-us", r"[0-9a-f]{32}-us[0-9]{1,2}(?![\w-])"),  # Mailchimp.
    ("EAA", r"EAA(?:[A-Za-z0-9]{80,}|A[\w-]{60}(?![\w+/=-]))"),  # Meta, Square.
    *((name, rf"{name}[A-Za-z0-9]{{54}}(?![A-Za-z0-9])") for name in ("EZAK", "EZTK")),  # EasyPost.
    ("AQVN", r"AQVN[\w-]{35,38}(?![\w-])"),  # Yandex.
    ("NRAL", r"[0-9a-f]{36}NRAL"),  # New Relic.
    (".", r"\.(?<=[0-9a-f]{32}\.)(?P<secret>[A-Za-z0-9]{16})(?!\w)"),  # Zhipu. The part before the dot is the key's id.
    # Discord. The part before the dots is the name of the bot.
    (".", r"\.(?:(?<=[MNO][\w-]{23}\.)|(?<=[MNO][\w-]{24}\.)|(?<=[MNO][\w-]{25}\.))[\w-]{6}\.[\w-]{27,}"),
    ("hooks.slack", r"hooks\.slack(?:-gov)?\.com/[a-z]+/(?P<secret>[\w/-]{20,})"),
    ("/api/webhooks/", r"/api/webhooks/(?P<secret>[0-9]{10,}/[\w-]{30,})"),
    ("webhook.office.com/", r"webhook\.office\.com/[a-z0-9]+/(?P<secret>[\w@/.-]{40,})"),
)  # fmt: skip
"""(a text in every match, the pattern): tokens without a prefix that ends in `-`, `_` or `.`."""

_RARE: Final = "~%/QZXKJ3GBNTCSEI2"
"""Characters by which the texts of `_WITHOUT_PREFIX` are grouped: searching one character is faster than a text."""

_SEPARATOR: Final = re.compile(
    r"[-_.](?=[a-z_-]{0,60}+[A-Z0-9]|[a-z]{24})(?=[A-Za-z0-9_.~+/=%-]{14}|[A-Za-z0-9_-]{6,}(?:\Z|\n|\.\.\.|\u2026))"
)
_TAIL: Final = 3  # Characters at the end of every prefix by which its forms are found.
_BEGINS: Final = re.compile(BEGINS)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The compiled pattern. Rules are compiled when they are first needed: all of them take 0.2 s."""
    return re.compile(pattern)


Groups = tuple[tuple[str, tuple[str, ...]], ...]
"""Texts to search for, grouped by a shorter text that each of them contains."""


def grouped(texts: Iterable[str], shared: Iterable[str]) -> Groups:
    """Group texts by the first of `shared` that each contains, so that `any_in` searches most texts together.

    Args:
        texts: to search for.
        shared: characters or words that are rare in ordinary text. A text without any is a group of its own.
    """
    shared = tuple(shared)
    groups: dict[str, list[str]] = {}
    for text in sorted(set(texts)):
        groups.setdefault(next((part for part in shared if part in text), text), []).append(text)
    return tuple((part, tuple(group)) for part, group in groups.items())


def any_in(text: str, groups: Groups) -> bool:
    """Return whether any of the grouped texts is in `text`."""
    for part, group in groups:  # Not `any`: a generator takes longer than the search.
        if part in text:
            for one in group:
                if one in text:
                    return True
    return False


class TokenForms:
    """All forms as one pattern, with the two methods of a compiled pattern that redaction needs."""

    def __init__(self) -> None:
        self._by_tail: dict[str, list[tuple[str, str]]] = {}
        for prefixes, rest in _FORMS.items():
            for prefix in prefixes.split():
                half = _HALF_OF_WORD if prefix in _WORDS or len(prefix) <= _TAIL else _HALF
                pattern = f"(?a){BEGINS}{re.escape(prefix)}(?:{rest}|{half})"
                self._by_tail.setdefault(prefix[-_TAIL:], []).append((prefix, pattern))
        self._known = grouped((known for known, _ in _WITHOUT_PREFIX if known != "."), _RARE)

    def search(self, text: str) -> re.Match[str] | None:
        """The first token found, not always the leftmost; None if there is none."""
        if _SEPARATOR.search(text) or any_in(text, self._known):
            return next(self._matches(text), None)
        return None

    def sub(self, replacement: Callable[[re.Match[str]], str], text: str) -> str:
        """The text with every token replaced, as `re.Pattern.sub` does."""
        parts: list[str] = []
        end = 0
        for match in sorted(self._matches(text), key=re.Match.start):
            if match.start() >= end:
                parts += text[end : match.start()], replacement(match)
                end = match.end()
        return "".join([*parts, text[end:]])

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        by_tail, end = self._by_tail, 0
        for separator in _SEPARATOR.finditer(text):
            at = separator.end()
            for prefix, pattern in by_tail.get(text[at - _TAIL : at], ()) if at >= end else ():
                if text.endswith(prefix, 0, at) and (found := compiled(pattern).match(text, at - len(prefix))):
                    end = found.end()
                    yield found
                    break
        for known, pattern in _WITHOUT_PREFIX:
            if known in text:
                part = f"|{known}{_HALF}" if known.isalnum() and len(known) > _TAIL else ""
                for found in compiled(f"(?a){pattern}{part}").finditer(text):
                    # A token that begins within a word is a part of something else.
                    if not text[found.start()].isalnum() or _BEGINS.match(text, found.start()):
                        yield found


TOKENS: Final = TokenForms()
