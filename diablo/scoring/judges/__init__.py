"""Judges of completions: `keywords` (a list of phrases) and `llm` (any OpenAI-compatible endpoint).

Both say whether a completion refuses, through one interface (`case.RefusalJudge`); the second also grades
answers from 1 to 10. What a judge did not say is listed, never guessed: see docs/judges.md.
"""
