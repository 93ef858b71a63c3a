"""PipeGate's own server and client as programs of the tests, and applications that are published."""
