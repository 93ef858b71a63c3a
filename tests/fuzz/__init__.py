"""
Throw mutated input at the decoders of L{gateway.wire}, and keep what was worth keeping.

    targets: what can be fuzzed, one row each
    mutation: an input from others
    __main__: C{python -m tests.fuzz}
"""
