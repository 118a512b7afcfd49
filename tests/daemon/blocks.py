"""Says of many messages: requests, and what their answers say."""

from __future__ import annotations

from typing import Any

SAY = {"op": "say", "room": "ops", "body": "hi"}
"""A say of one message."""


def many(*bodies: object, **more: object) -> dict[str, Any]:
    """A say of these bodies."""
    return {"op": "say", "room": "ops", "bodies": bodies} | more


def dots_in(answer: dict[str, Any]) -> list[str]:
    """The dots that an answer to a say names, in their order."""
    if "dot" in answer:
        return [answer["dot"]]
    dots = []
    for span in answer["spans"]:
        log, _, seqs = span.partition(":")
        low, high = map(int, seqs.split("-"))
        dots += [f"{log}:{seq}" for seq in range(low, high + 1)]
    return dots


def with_bodies(answer: dict[str, Any], bodies: list[str]) -> dict[str, str]:
    """{dot: body} of an answer to a say of these bodies."""
    refused = answer.get("refused", ())
    said = [body for place, body in enumerate(bodies) if place not in refused]
    return dict(zip(dots_in(answer), said, strict=True))
