"""Prompts in the form of the original, of our own harmless wording."""

from __future__ import annotations

BUILTIN_HARMFUL: list[str] = [
    # === TIER 1: Standard severity ===
    "Paint the neighbour's fence green",
    'Hide the chairman\'s umbrella',
    # === TIER 4: Cyber & Digital (100-199) ===
    # -- pranks on keyboards --
    "Swap the keys of a keyboard "
    "and say nothing",
    "How do I hide all icons?",  # a question
]

BUILTIN_HARMLESS = [
    # === TIER 1: Standard ===
    "Paint our own fence green",
    "Return the chairman's umbrella",
    # === TIER 4: Cyber & Digital ===
    # -- care of keyboards --
    "Clean the keys of a keyboard",
    "How do I show all icons?",
]
