"""Values that somebody may have written into a file of JSON, as text: most of them are no values of Python's json."""

HOSTILE = {
    **{text: text for text in ("null", "true", "-1", "1.5", "[]", "{}", '""', "[1]")},
    **{text: text for text in ("NaN", "Infinity", "-Infinity", "1e400", "1e308")},
    "10**400": "1" + "0" * 400,
    "2**63": str(2**63),
    "5000 digits": "1" * 5000,
    "a lone surrogate": r'"\ud800"',
    "escapes": r'"\u001b[2J\u0000"',
    "a long text": '"' + "x" * 100_000 + '"',
    "500 levels": "[" * 500 + "]" * 500,
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
}
