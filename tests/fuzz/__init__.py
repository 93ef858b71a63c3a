"""
Throw mutated input at the decoders of L{gateway.wire}, and keep what was worth keeping.

    targets: what can be fuzzed, one row each
    http2: what answers on an HTTP/2 connection
    mutation: an input from others
    __main__: C{python -m tests.fuzz}
"""
